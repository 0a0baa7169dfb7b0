/* AdamW from one slot's layout to the other's; see moments.h for which tensors are spared. */
#include "moments.h"

#include "try.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a tensor's new moments lost. */
typedef struct losses {
    tt_codec_loss m, v, update;
} losses;

typedef struct job {
    const tt_moments_update *update;
    tt_step_scalars scalars;
    tt_slot_memory *memory;
    const tt_slot_layout *from;
    tt_slot_layout *to;
    bool in_place;
} job;

static double worst_reconstruction(const losses *l)
{
    return fmax(tt_codec_loss_ratio(&l->m), tt_codec_loss_ratio(&l->v));
}

/* As a share of what is allowed; infinite where that has no meaning. */
static double strain_of(const job *j, const losses *l)
{
    const tt_moments_policy *policy = j->update->policy;
    double strain = fmax(worst_reconstruction(l) / policy->reconstruction_max,
                         tt_codec_loss_ratio(&l->update) / policy->update_max);
    return isnan(strain) ? INFINITY : strain;
}

static void *params_of(const job *j, int slot, size_t index)
{
    return (unsigned char *)j->memory->slots[slot].params +
           tt_param_at(tt_model_tensor(j->update->model, index), TT_F32);
}

/* ---- one tensor, one codec ---- */

static tt_status run_encoded(const job *j, size_t index, const tt_encoded from[2],
                             const tt_encoded to[2], void *params, tt_verdict *verdict,
                             losses *lost)
{
    const tt_moments_update *u = j->update;
    const tt_param_tensor *tensor = tt_model_tensor(u->model, index);
    const tt_rounding rounding = tt_optim_rounding(u->optim, u->step, index);
    const tt_adamw_encoded_args args = {
        .n = tensor->count,
        .p = params_of(j, u->read_slot, index),
        .g = (const float *)tt_model_gradients(u->model) + tensor->offset,
        .m = from[0],
        .v = from[1],
        .p_next = params,
        .m_next = to[0],
        .v_next = to[1],
        .weight_decay = tensor->decay ? u->optim->weight_decay : 0.0,
        .scalars = &j->scalars,
        .verdict = verdict,
        .m_loss = &lost->m,
        .v_loss = &lost->v,
        .u_loss = &lost->update,
        .dither = (uint64_t)u->step + 1,
        .rounding = tensor->bf16 ? &rounding : NULL,
    };
    *verdict = (tt_verdict){0};
    memset(lost, 0, sizeof *lost);
    return tt_adamw_encoded(u->compressor, &args);
}

static void read_side(const job *j, size_t index, tt_encoded out[2])
{
    for (int second = 0; second < 2; second++) {
        out[second] = tt_slot_moment(j->memory, j->update->read_slot, index, second);
    }
}

static void write_side(const job *j, size_t index, tt_codec codec, tt_encoded out[2])
{
    for (int second = 0; second < 2; second++) {
        out[second] = tt_slot_moment_as(j->memory, j->update->write_slot, index, second, codec,
                                        j->update->policy->block);
    }
}

/* Where an update in place goes first. */
static void staging_side(const job *j, const tt_encoded like[2], tt_encoded out[2])
{
    out[0] = like[0];
    out[1] = like[1];
    out[0].data = j->memory->staging.m;
    out[1].data = j->memory->staging.v;
}

static tt_status copy_moments(const job *j, const tt_encoded from[2], const tt_encoded to[2])
{
    for (int i = 0; i < 2; i++) {
        TRY(tt_tensor_copy(j->memory->context, to[i].data, from[i].data,
                           tt_codec_bytes(from[i].codec, from[i].block, from[i].n)));
    }
    return TT_OK;
}

static void *next_params(const job *j, size_t index)
{
    return params_of(j, j->update->write_slot, index);
}

/* Encodes, and measures. In place nothing of the slot is touched yet: see take_staged. */
static tt_status try_encoded(const job *j, size_t index, tt_codec codec, tt_verdict *verdict,
                             losses *lost)
{
    tt_encoded from[2];
    tt_encoded to[2];
    tt_encoded staged[2];
    read_side(j, index, from);
    write_side(j, index, codec, to);
    if (!j->in_place) {
        return run_encoded(j, index, from, to, next_params(j, index), verdict, lost);
    }
    staging_side(j, to, staged);
    return run_encoded(j, index, from, staged, j->memory->staging.params, verdict, lost);
}

static tt_status take_staged(const job *j, size_t index, tt_codec codec)
{
    tt_encoded to[2];
    tt_encoded staged[2];
    if (!j->in_place) {
        return TT_OK;
    }
    write_side(j, index, codec, to);
    staging_side(j, to, staged);
    TRY(tt_tensor_copy(j->memory->context, next_params(j, index), j->memory->staging.params,
                       tt_param_bytes(tt_model_tensor(j->update->model, index), TT_F32)));
    return copy_moments(j, staged, to);
}

/* To f32, from whatever the tensor is kept in. */
static tt_status run_f32(const job *j, size_t index, tt_verdict *verdict)
{
    const tt_moments_update *u = j->update;
    tt_encoded from[2];
    tt_encoded to[2];
    tt_encoded staged[2];
    losses none;
    if (j->from->codec[index] == TT_CODEC_F32) {
        *verdict = (tt_verdict){0};
        return tt_optim_tensor(j->memory->context, u->model, index, u->optim, u->step, &j->scalars,
                               &j->memory->slots[u->read_slot], &j->memory->slots[u->write_slot],
                               verdict);
    }
    read_side(j, index, from);
    write_side(j, index, TT_CODEC_F32, to);
    if (j->in_place) { /* what is read lies where will be written */
        staging_side(j, from, staged);
        TRY(copy_moments(j, from, staged));
        memcpy(from, staged, sizeof from);
    }
    return run_encoded(j, index, from, to, next_params(j, index), verdict, &none);
}

/* ---- which codec ---- */

/* Every 64 steps, and before that at 1, 2, 4 ... 32 steps. */
static bool is_due(int64_t step)
{
    return step % TT_MOMENTS_EVERY == 0 || (step < TT_MOMENTS_EVERY && (step & (step - 1)) == 0);
}

/* The codec with the fewest bits that is to be tried. */
static tt_codec first_try(const job *j, size_t index)
{
    tt_codec asked = j->update->policy->codec;
    tt_codec now = j->from->codec[index];
    if (tt_model_tensor(j->update->model, index)->count < TT_ENCODED_ELEMENTS) {
        return TT_CODEC_F32;
    }
    if (j->from->decided && j->from->kept[index] && now < asked && !is_due(j->update->step)) {
        return now;
    }
    return asked;
}

static tt_status update_tensor(const job *j, size_t index, tt_verdict *verdict, losses *lost)
{
    tt_codec asked = j->update->policy->codec;
    tt_codec now = j->from->codec[index];
    tt_codec codec = first_try(j, index);
    bool fits = false;
    while (codec != TT_CODEC_F32 && !fits) {
        TRY(try_encoded(j, index, codec, verdict, lost));
        fits = strain_of(j, lost) <= (codec > now ? TT_MOMENTS_ENTER : TT_MOMENTS_LEAVE);
        codec = fits ? codec : (tt_codec)(codec - 1);
    }
    if (fits) {
        TRY(take_staged(j, index, codec));
    } else {
        memset(lost, 0, sizeof *lost);
        TRY(run_f32(j, index, verdict));
    }
    bool small = tt_model_tensor(j->update->model, index)->count < TT_ENCODED_ELEMENTS;
    j->to->kept[index] = codec < asked && !small;
    return tt_slot_settle(j->memory, j->update->write_slot, index, codec, j->update->policy->block);
}

/* ---- the whole slot ---- */

tt_status tt_moments_run(const tt_moments_update *update, tt_moments_result *out)
{
    job j = {
        .update = update,
        .scalars = tt_optim_scalars(update->optim, update->step, update->norm, update->rate_scale),
        .memory = update->memory,
        .from = &update->memory->layouts[update->read_slot],
        .to = &update->memory->layouts[update->write_slot],
        .in_place = update->read_slot == update->write_slot,
    };
    *out = (tt_moments_result){.changed = false};
    for (size_t i = 0; i < tt_model_tensor_count(update->model); i++) {
        tt_codec before = j.from->codec[i];
        tt_verdict verdict;
        losses lost;
        TRY(update_tensor(&j, i, &verdict, &lost));
        /* Tensor by tensor, so that the sums do not depend on how the operation adds to them. */
        out->verdict.nonfinite += verdict.nonfinite;
        out->verdict.update_squares += verdict.update_squares;
        out->reconstruction = fmax(out->reconstruction, worst_reconstruction(&lost));
        out->update = fmax(out->update, tt_codec_loss_ratio(&lost.update));
        bool first_kept = j.to->kept[i] && !j.from->decided;
        out->changed = out->changed || j.to->codec[i] != before || first_kept;
    }
    j.to->decided = update->policy->codec != TT_CODEC_F32;
    j.to->block = update->policy->block;
    update->memory->written = update->write_slot;
    tt_slot_list_parts(update->memory, update->write_slot);
    return TT_OK;
}

/* ---- for people ---- */

static void append(char *out, size_t bytes, const char *text)
{
    size_t used = strlen(out);
    snprintf(out + used, bytes - used, "%s", text);
}

bool tt_moments_describe(const tt_slot_memory *memory, int slot, tt_codec asked, char *out,
                         size_t bytes)
{
    enum { NAMED = 6 };
    const tt_slot_layout *layout = &memory->layouts[slot];
    char names[NAMED * 72] = "";
    char line[160];
    int64_t all = 0;
    int64_t kept = 0;
    size_t count = 0;
    for (size_t i = 0; i < tt_model_tensor_count(memory->model); i++) {
        const tt_param_tensor *tensor = tt_model_tensor(memory->model, i);
        all += tensor->count;
        if (layout->kept[i]) {
            kept += tensor->count;
            if (count++ < NAMED) {
                append(names, sizeof names, count > 1 ? ", " : "");
                append(names, sizeof names, tensor->name);
            }
        }
    }
    snprintf(
        line, sizeof line,
        "moments: %zu tensor%s (%.1f %% of the elements) keep%s more bits than %s, which would "
        "lose too much of %s update: ",
        count, count == 1 ? "" : "s", 100.0 * (double)kept / (double)all, count == 1 ? "s" : "",
        tt_codec_name(asked), count == 1 ? "its" : "their");
    out[0] = '\0';
    append(out, bytes, line);
    append(out, bytes, names);
    append(out, bytes, count > NAMED ? ", ..." : "");
    return count > 0;
}
