/* Calibration of the gates: faults of graded size in forks of a run that is the user's own. */
#ifndef TRIMTAB_TRAINING_CALIBRATE_CALIBRATE_H
#define TRIMTAB_TRAINING_CALIBRATE_CALIBRATE_H

#include "../drill/plant.h"

enum {
    TT_CALIBRATE_ROWS = 96,
    TT_CALIBRATE_FINDINGS = 24,
    TT_CALIBRATE_ROUNDS = 50,
    TT_CALIBRATE_STEPS = 256,
    TT_CALIBRATE_NAMES = 1024,
};

/* How a fault is made. */
typedef enum tt_calibrate_how {
    TT_HOW_TENSOR,    /* in tensors of a replay, by the plant */
    TT_HOW_NONFINITE, /* the same, in another tensor of a group each time */
    TT_HOW_ERROR,     /* added to what the codec lost as it was measured */
    TT_HOW_SERIES,    /* a rise in a series that is made of the run's own steps */
} tt_calibrate_how;

typedef struct tt_calibrate_fault {
    tt_calibrate_how how;
    tt_fault_kind kind;
    tt_plant_site site;
    const char *tensor; /* TENSOR: as in tt_tensor_fault. NONFINITE: what the name begins with */
    double strength;    /* of the fault itself */
    int target;         /* ERROR: index of the error target */
    bool of_norm;       /* SERIES: the gradient norm rises, not the loss */
    bool in_gradient;   /* of the last microbatch only: the earlier ones are summed in it */
} tt_calibrate_fault;

/* Names of tensors that a pass shows, each once. */
typedef struct tt_calibrate_names {
    char (*list)[TT_TENSOR_NAME];
    size_t count;
} tt_calibrate_names;

/* What is returned, with what it points to. */
typedef struct tt_calibration_whole {
    tt_calibration public; /* first */
    tt_calibration_row rows[TT_CALIBRATE_ROWS];
    tt_text texts[TT_CALIBRATE_FINDINGS];
    const char *findings[TT_CALIBRATE_FINDINGS];
} tt_calibration_whole;

typedef struct tt_calibrator {
    const tt_calibrate_options *options;
    tt_training *training;
    tt_host host;
    tt_plant plant;
    tt_gate_memory *gates;                        /* of the published state */
    tt_calibrate_fault faults[TT_CALIBRATE_ROWS]; /* by row */
    tt_calibration_whole *result;
    double *observed; /* [row][round]: multiples of the clean step's loss or norm */
    tt_calibrate_names names;
    bool collecting;                  /* names */
    const tt_calibrate_fault *making; /* by the plant; NULL: none */
    int64_t microbatch;               /* in progress, from 1 on once its loss is known */
    int64_t rounds;
    tt_measurements clean; /* of this round's batch */
    uint64_t start_ns;
} tt_calibrator;

/* calibrate.c */
bool tt_calibrate_stopped(const tt_calibrator *c);
double tt_calibrate_seconds(const tt_calibrator *c);

/* faults.c */
/* The faults that this run can have; needs the gates' memory. */
tt_status tt_calibrate_list_faults(tt_calibrator *c);
/* A step without a fault on the batch at `position`. */
tt_status tt_calibrate_clean(tt_calibrator *c, int64_t position, tt_measurements *out);
/* Makes every fault of replays once on that batch, after its clean step. */
tt_status tt_calibrate_make_faults(tt_calibrator *c, int64_t round, int64_t position);
/* Medians and intervals. */
void tt_calibrate_conclude_rows(tt_calibrator *c);

/* drift.c: the faults that are series. */
tt_status tt_calibrate_drift(tt_calibrator *c);

/* findings.c */
tt_status tt_calibrate_write_findings(tt_calibrator *c);

#endif
