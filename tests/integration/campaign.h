/* Planted culprits: cases with a known truth, run on the real trainer and judged by it. */
#ifndef TRIMTAB_TESTS_INTEGRATION_CAMPAIGN_H
#define TRIMTAB_TESTS_INTEGRATION_CAMPAIGN_H

#include "drill/plant.h"
#include "fixture.h"

/* Who is to blame. */
typedef enum campaign_truth {
    CAMPAIGN_SINGLE,    /* one optimization */
    CAMPAIGN_EITHER,    /* two that do harm only together */
    CAMPAIGN_JOINT,     /* two, each by itself */
    CAMPAIGN_BATCH,     /* one batch */
    CAMPAIGN_TRANSIENT, /* nobody: a few attempts, then never again */
    CAMPAIGN_MEMORY,    /* nobody: a state is damaged once, where it lies */
    CAMPAIGN_TRUTHS
} campaign_truth;

typedef enum campaign_class {
    CAMPAIGN_RIGHT,
    CAMPAIGN_UNNOTICED,  /* no gate tripped, and the loss is that of the clean run */
    CAMPAIGN_MISSED,     /* no gate tripped, and the loss is not */
    CAMPAIGN_UNRESOLVED, /* nobody was named though someone is to blame; the run went on */
    CAMPAIGN_MISNAMED,   /* an innocent was named, or turned off, or a culprit left on */
    CAMPAIGN_HARMED,     /* rightly named, but the end is not what it is to be */
    CAMPAIGN_STOPPED,    /* the run could not go on */
    CAMPAIGN_CLASSES
} campaign_class;

typedef struct campaign_case {
    int number;
    campaign_truth truth;
    bool settled;     /* begins where all gates are armed, else at step 0 */
    int slots, every; /* snapshot.slots, checkpoint.every_steps */
    tt_plant plants[2];
    int plant_count;
} campaign_case;

typedef struct campaign_result {
    campaign_class class;
    char verdicts[256]; /* of all searches, in order */
    char why[256];      /* the class, in words */
    tt_run_totals totals;
    int64_t first_trip;
    char gate[32];         /* of the first trip */
    double tail, held_out; /* relative to the clean run */
} campaign_result;

/* Clean runs to begin from and to compare with. */
typedef struct campaign campaign;

campaign *campaign_create(void);
void campaign_destroy(campaign *campaign);
/* The case with this number: the same one each time. */
void campaign_draw(int number, campaign_case *out);
void campaign_run(campaign *campaign, campaign_case *planted, campaign_result *out);
/* "moments+tile scale 1e+12 in adam_m.int8.scale/wte.weight, written, from step 140" */
void campaign_describe(const campaign_case *planted, char out[512]);
const char *campaign_truth_name(campaign_truth truth);
const char *campaign_kind_name(tt_fault_kind kind);
const char *campaign_class_name(campaign_class class);

#endif
