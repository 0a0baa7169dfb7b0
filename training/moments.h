/* The update of a slot whose moments may be encoded, and which tensors are spared.
 *
 * Where a codec would lose too much of a tensor's update, the tensor keeps more bits: bf16 where
 * int8 was asked for, f32 where that does not do either. Most of all this is so in the first steps,
 * when m and v stand on few gradients. A tensor is measured whenever it is encoded. It goes over to
 * fewer bits when it would lose less than 40 % of what gates allow, and back to more when it would
 * lose more than 80 %, in the very step in which it would: what the gates then see is below their
 * limits. One that was refused is tried again every 64 steps, and at doubling intervals before
 * step 64. All of this is a function of the state, the gradients and the step: a replay and a
 * resumed run decide the same. */
#ifndef TRIMTAB_TRAINING_MOMENTS_H
#define TRIMTAB_TRAINING_MOMENTS_H

#include "slots.h"

#define TT_MOMENTS_ENTER 0.4 /* of the limits: encode */
#define TT_MOMENTS_LEAVE 0.8 /* of the limits: encode no longer */
enum { TT_MOMENTS_EVERY = 64 };

/* What is asked for. */
typedef struct tt_moments_policy {
    tt_codec codec; /* of m: F32, BF16, INT8 */
    int64_t block;
    double reconstruction_max, update_max; /* what the gates allow */
} tt_moments_policy;

typedef struct tt_moments_update {
    tt_slot_memory *memory;
    tt_model *model;
    tt_compressor *compressor;
    const tt_optim_options *optim;
    const tt_moments_policy *policy;
    int64_t step;
    double norm, rate_scale; /* of the gradients; times the schedule's rate */
    int read_slot, write_slot;
} tt_moments_update;

typedef struct tt_moments_result {
    tt_verdict verdict;
    /* The worst of all tensors, as written: ||x - x^|| / ||x|| of m and sqrt(v), and of the
     * update. 0 where all is f32. */
    double reconstruction, update;
    bool changed; /* some tensor's codec is another than in the slot that was read, or spared for
                     the first time */
} tt_moments_result;

/* Reads one slot and the model's gradients, writes the other (or the same) with its layout. */
tt_status tt_moments_run(const tt_moments_update *update, tt_moments_result *out);

/* A line for a person: which tensors of `slot` keep more bits than `asked`, and what share of
 * the elements that is. False if there are none. */
bool tt_moments_describe(const tt_slot_memory *memory, int slot, tt_codec asked, char *out,
                         size_t bytes);

#endif
