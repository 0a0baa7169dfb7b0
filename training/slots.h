/* The slots of a training run: parameters and both Adam moments, each tensor's moments in a codec
 * of its own.
 *
 * A slot is three ranges of addresses, one for parameters and two, large enough for f32, for
 * moments, in which every tensor has its fixed place. A tensor whose moments are encoded takes the
 * front of its place, and the pages behind go back to the system: nothing moves when a codec
 * changes, and memory really falls. What is lost to this is at most two pages a tensor; small
 * tensors are never encoded. */
#ifndef TRIMTAB_TRAINING_SLOTS_H
#define TRIMTAB_TRAINING_SLOTS_H

#include "model.h"
#include "optim.h"
#include "trimtab/compression.h"
#include "trimtab/orchestrator.h"

enum {
    TT_SLOT_CAPACITY = TT_MAX_SLOTS + 1, /* and the scratch slot */
    /* Tensors of fewer elements stay f32 (as in Dettmers et al. 2022): norms and biases, which are
     * a thousandth of a model and the most sensitive part of it. */
    TT_ENCODED_ELEMENTS = 4096,
};

/* One tensor of a slot as checkpoints see it. */
typedef enum tt_slot_part_kind {
    TT_PART_PARAMS,
    TT_PART_M,
    TT_PART_M_SCALE,
    TT_PART_V,
    TT_PART_V_SCALE,
    TT_PART_KEPT,
} tt_slot_part_kind;

typedef struct tt_slot_part {
    tt_slot_part_kind kind;
    size_t tensor; /* of the model */
} tt_slot_part;

/* How a slot keeps its moments; arrays by the model's tensors. */
typedef struct tt_slot_layout {
    tt_codec *codec; /* of m: F32, BF16 or INT8; v goes along as F32, BF16 or UINT8_UP */
    uint8_t *kept;   /* 1: has more bits than was asked for, or it would have lost too much */
    size_t *extent;  /* bytes at the front of each place that may be resident */
    bool decided;    /* an update under a codec other than f32 has filled `kept` */
    int64_t block;
    tt_slot_part *parts;
    size_t part_count;
} tt_slot_layout;

struct tt_training;

typedef struct tt_slot_memory {
    tt_context *context;
    const tt_model *model;
    tt_slot_tensors slots[TT_SLOT_CAPACITY];
    tt_slot_layout layouts[TT_SLOT_CAPACITY + 1]; /* the last one: a draft */
    int count;                                    /* with the scratch slot, which is the last */
    /* Where an update in place puts a tensor's new state until all of the old one has been read. */
    tt_slot_tensors staging;
    int written;                  /* slot that was written last */
    int failed_update;            /* slot that the last live attempt wrote, or -1: for scans */
    struct tt_training *training; /* for run_step and memory_estimate; NULL without a run */
} tt_slot_memory;

/* `count` slots and the scratch slot. Zeroed, f32. */
tt_status tt_slot_memory_create(tt_context *context, const tt_model *model, int count,
                                tt_slot_memory *out);
/* What is not tensor memory. A zeroed struct is fine. */
void tt_slot_memory_destroy(tt_slot_memory *memory);
/* Address space that tt_slot_memory_create takes; SIZE_MAX: beyond it. */
size_t tt_slot_memory_bytes(const tt_model_dims *dims, int count);
/* The parameters of one slot, and each of its moments in f32; SIZE_MAX: beyond the address space.
 */
size_t tt_slot_params_bytes(const tt_model_dims *dims);
size_t tt_slot_vector_bytes(const tt_model_dims *dims);
/* Where checkpoints have a parameter: "params", or "params.bf16" for its bits. */
const char *tt_slot_params_folder(bool bf16);

/* Codec of the second moment beside one of the first. */
tt_codec tt_codec_of_v(tt_codec codec_of_m);
/* The moments of one tensor as the slot's layout says. */
tt_encoded tt_slot_moment(const tt_slot_memory *memory, int slot, size_t tensor, bool second);
/* The same if they were kept in `codec`. */
tt_encoded tt_slot_moment_as(const tt_slot_memory *memory, int slot, size_t tensor, bool second,
                             tt_codec codec, int64_t block);
/* A tensor's moments have been written in `codec`: takes note, and gives back what lies behind. */
tt_status tt_slot_settle(tt_slot_memory *memory, int slot, size_t tensor, tt_codec codec,
                         int64_t block);
/* Lists the parts anew, after all tensors were settled. */
void tt_slot_list_parts(tt_slot_memory *memory, int slot);

size_t tt_slot_part_count(const tt_slot_memory *memory, int slot);
void tt_slot_part_info(const tt_slot_memory *memory, int slot, size_t index, tt_tensor_info *out);
/* In tensor memory; NULL for what is not. */
void *tt_slot_part_address(const tt_slot_memory *memory, int slot, size_t index);
tt_status tt_slot_part_read(const tt_slot_memory *memory, int slot, size_t index, int64_t offset,
                            void *out, size_t bytes);
tt_status tt_slot_part_write(tt_slot_memory *memory, int slot, size_t index, int64_t offset,
                             const void *data, size_t bytes);

tt_status tt_slot_copy(tt_slot_memory *memory, int from, int to);
/* All of its pages go back, and the staging area's; zero, f32. */
tt_status tt_slot_release(tt_slot_memory *memory, int slot);
/* Lays `slot` out for these tensors (sorted by name), or TT_ECONFIG. */
tt_status tt_slot_prepare(tt_slot_memory *memory, int slot, const tt_tensor_info *tensors,
                          size_t count);

/* First tensor with a NaN or an infinity, over all that is resident. */
tt_status tt_slot_memory_locate(void *user, int read_slot, int write_slot,
                                char name[TT_TENSOR_NAME]);
/* All of the above as a host; run_step and memory_estimate only with `memory->training`. */
tt_host tt_slot_memory_host(tt_slot_memory *memory);

#endif
