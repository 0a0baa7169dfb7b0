/* Laying a slot out for the tensors of a checkpoint. */
#include "slots.h"

#include "try.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct checkpoint {
    const tt_tensor_info *tensors; /* sorted by name */
    size_t count;
} checkpoint;

static int compare_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const tt_tensor_info *)tensor)->name);
}

static const tt_tensor_info *find(const checkpoint *from, const char *name)
{
    return bsearch(name, from->tensors, from->count, sizeof *from->tensors, compare_name);
}

static tt_status misses(const char *name)
{
    return tt_fail(TT_ECONFIG,
                   "it holds no tensor %s; resume with the configuration that it was saved with",
                   name);
}

static tt_status differs(const char *name)
{
    return tt_fail(TT_ECONFIG,
                   "tensor %s has another type or shape than this configuration's model; resume "
                   "with the configuration that it was saved with",
                   name);
}

/* How many elements a scale stands for: tensors have at least as many elements as the largest
 * block, so the number of scales tells the block. */
static int64_t block_of(int64_t elements, int64_t scales)
{
    for (int64_t block = TT_CODEC_BLOCK_MIN; block <= TT_CODEC_BLOCK_MAX; block *= 2) {
        if ((elements + block - 1) / block == scales) {
            return block;
        }
    }
    return 0;
}

static tt_status find_codec(const checkpoint *from, const tt_param_tensor *tensor, size_t index,
                            tt_slot_layout *draft)
{
    static const struct {
        const char *folder;
        tt_codec codec;
    } forms[] = {
        {"adam_m", TT_CODEC_F32}, {"adam_m.bf16", TT_CODEC_BF16}, {"adam_m.int8", TT_CODEC_INT8}};
    char name[TT_TENSOR_NAME];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(name, sizeof name, "%s/%s", forms[i].folder, tensor->name);
        if (!find(from, name)) {
            continue;
        }
        draft->codec[index] = forms[i].codec;
        if (forms[i].codec != TT_CODEC_F32 && tensor->count < TT_ENCODED_ELEMENTS) {
            return differs(name);
        }
        if (forms[i].codec != TT_CODEC_INT8) {
            return TT_OK;
        }
        snprintf(name, sizeof name, "adam_m.int8.scale/%s", tensor->name);
        const tt_tensor_info *scale = find(from, name);
        if (!scale) {
            return misses(name);
        }
        int64_t block = scale->rank == 1 ? block_of(tensor->count, scale->dims[0]) : 0;
        if (block == 0 || (draft->block && draft->block != block)) {
            return differs(name);
        }
        draft->block = block;
        return TT_OK;
    }
    snprintf(name, sizeof name, "adam_m/%s", tensor->name);
    return misses(name);
}

static tt_status check_part(const checkpoint *from, const tt_tensor_info *wanted)
{
    const tt_tensor_info *given = find(from, wanted->name);
    if (!given) {
        return misses(wanted->name);
    }
    bool same = given->dtype == wanted->dtype && given->rank == wanted->rank;
    for (int i = 0; same && i < wanted->rank; i++) {
        same = given->dims[i] == wanted->dims[i];
    }
    return same ? TT_OK : differs(wanted->name);
}

/* The checkpoint has more tensors than the layout has parts: which? */
static tt_status refuse_stranger(const tt_slot_memory *memory, const checkpoint *from)
{
    for (size_t i = 0; i < from->count; i++) {
        bool known = false;
        for (size_t k = 0; !known && k < tt_slot_part_count(memory, TT_SLOT_CAPACITY); k++) {
            tt_tensor_info info;
            tt_slot_part_info(memory, TT_SLOT_CAPACITY, k, &info);
            known = strcmp(info.name, from->tensors[i].name) == 0;
        }
        if (!known) {
            return tt_fail(TT_ECONFIG,
                           "it holds a tensor %s, which this configuration's model has not; resume "
                           "with the configuration that it was saved with",
                           from->tensors[i].name);
        }
    }
    return tt_fail(TT_ECONFIG, "it names a tensor twice");
}

/* The draft becomes the slot's layout. */
static tt_status adopt(tt_slot_memory *memory, int slot)
{
    const tt_slot_layout *draft = &memory->layouts[TT_SLOT_CAPACITY];
    tt_slot_layout *layout = &memory->layouts[slot];
    size_t count = tt_model_tensor_count(memory->model);
    for (size_t i = 0; i < count; i++) {
        TRY(tt_slot_settle(memory, slot, i, draft->codec[i], draft->block));
        layout->kept[i] = 0;
    }
    layout->decided = draft->decided;
    layout->block = draft->block;
    tt_slot_list_parts(memory, slot);
    return TT_OK;
}

tt_status tt_slot_prepare(tt_slot_memory *memory, int slot, const tt_tensor_info *tensors,
                          size_t count)
{
    const checkpoint from = {tensors, count};
    tt_slot_layout *draft = &memory->layouts[TT_SLOT_CAPACITY];
    draft->block = 0;
    draft->decided = find(&from, "moments/kept") != NULL;
    for (size_t i = 0; i < tt_model_tensor_count(memory->model); i++) {
        TRY(find_codec(&from, tt_model_tensor(memory->model, i), i, draft));
    }
    tt_slot_list_parts(memory, TT_SLOT_CAPACITY);
    for (size_t i = 0; i < draft->part_count; i++) {
        tt_tensor_info wanted;
        tt_slot_part_info(memory, TT_SLOT_CAPACITY, i, &wanted);
        TRY(check_part(&from, &wanted));
    }
    return count > draft->part_count ? refuse_stranger(memory, &from) : adopt(memory, slot);
}
