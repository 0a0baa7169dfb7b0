/* Faults in tensors of a training run, live or replayed: for drills, gate calibration and tests.
 * (Here alone may a file of training/ reach into orchestrator/.) */
#ifndef TRIMTAB_TRAINING_DRILL_PLANT_H
#define TRIMTAB_TRAINING_DRILL_PLANT_H

#include "../../orchestrator/fault.h"
#include "../internal.h"

typedef enum tt_plant_site {
    TT_PLANT_PASS,    /* act.* as computed, grad.* */
    TT_PLANT_DECODED, /* act.* as a codec gives it back to the backward pass */
    TT_PLANT_READ,    /* f32 and bf16 parts of the slot that the step reads: params/..., ... */
    TT_PLANT_WRITTEN, /* the same of the slot that it wrote, before it is published */
} tt_plant_site;

typedef struct tt_plant {
    tt_tensor_fault fault; /* the caller's, but for `with` */
    tt_plant_site site;
    const char *with[2]; /* names of optimizations: acts only while these are on; NULL: no matter */
    /* Called on the way, also without any fault; may be NULL: for those who end the process. */
    void (*at_tensor)(void *user, const tt_step_plan *plan, const char *name);
    void (*at_update)(void *user, const tt_step_plan *plan);
    void *user;

    tt_training *training;
    tt_optimization optimizations[2];
    int64_t live_harmed; /* tensors of the last live attempt */
} tt_plant;

/* Takes the training's hooks. `plant` must outlive its steps. TT_EINVAL: no such optimization. */
tt_status tt_plant_attach(tt_plant *plant, tt_training *training);

#endif
