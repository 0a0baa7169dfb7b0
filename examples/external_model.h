/* The model of external_job.c, as a job has it before it knows of trimtab: softmax regression on a
 * synthetic task, trained by SGD with momentum, in plain arrays. Two things make it faster or
 * smaller: matrix products in tiles, and a momentum that is kept in 8 bits. At the end its state as
 * named tensors, which a job has for its own checkpoints. */
#ifndef EXTERNAL_MODEL_H
#define EXTERNAL_MODEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <trimtab/orchestrator.h>

enum { INPUTS = 256, CLASSES = 64, BATCH = 32, WEIGHTS = INPUTS * CLASSES };

typedef struct state { /* what a step changes */
    float weights[WEIGHTS], momentum[WEIGHTS];
    int8_t packed[WEIGHTS]; /* the momentum again, if block > 1 */
    float scales[WEIGHTS];
    int64_t block; /* values that share a scale; 1: the momentum is not packed */
} state;

typedef struct model {
    float batch[BATCH * INPUTS], centres[WEIGHTS], scores[BATCH * CLASSES];
    float gradient[WEIGHTS], momentum[WEIGHTS];
    int64_t tile, block, fault; /* from step `fault` on the tiled product gives a NaN */
} model;

static void initialize(model *m, state *s)
{
    tt_random_normal_f32(1, 0, m->centres, WEIGHTS); /* of the classes, in the space of inputs */
    memset(s, 0, sizeof *s);
    s->block = 1;
    m->tile = m->block = 1;
}

/* out[n, CLASSES] = a[n, k] b[k, CLASSES], a's elements being `row` and `column` apart. Tile 1 is
 * the trusted path; the others add in the same order, so that their results are bit-equal. */
static void product(int64_t tile, float *out, const float *a, int row, int column, const float *b,
                    int n, int k)
{
    memset(out, 0, sizeof(float) * (size_t)(n * CLASSES));
    for (int j = 0; tile == 1 && j < n * CLASSES; j++) {
        for (int p = 0; p < k; p++) {
            out[j] += a[j / CLASSES * row + p * column] * b[p * CLASSES + j % CLASSES];
        }
    }
    for (int64_t first = 0; tile > 1 && first < CLASSES; first += tile) {
        for (int i = 0; i < n; i++) {
            for (int p = 0; p < k; p++) {
                const float x = a[i * row + p * column];
                for (int64_t j = first; j < first + tile; j++) {
                    out[i * CLASSES + j] += x * b[p * CLASSES + j];
                }
            }
        }
    }
}

/* Loss of the batch at `position`, and its gradient's norm. */
static double forward_backward(model *m, const state *s, int64_t step, int64_t position,
                               double *norm)
{
    double loss = 0, square = 0;
    tt_random_normal_f32(1, 1 + (uint64_t)position, m->batch, (size_t)BATCH * INPUTS);
    for (int i = 0; i < BATCH * INPUTS; i++) {
        m->batch[i] += 0.2F * m->centres[(position + i / INPUTS) % CLASSES * INPUTS + i % INPUTS];
    }
    product(m->tile, m->scores, m->batch, INPUTS, 1, s->weights, BATCH, INPUTS);
    if (m->tile > 1 && step >= m->fault) {
        m->scores[0] = NAN;
    }
    for (int i = 0; i < BATCH; i++) {
        float *row = m->scores + i * CLASSES;
        float sum = 0;
        const int64_t label = (position + i) % CLASSES;
        for (int c = 0; c < CLASSES; c++) {
            sum += expf(row[c]);
        }
        loss += (double)(logf(sum) - row[label]) / BATCH;
        for (int c = 0; c < CLASSES; c++) {
            row[c] = (expf(row[c]) / sum - (c == label ? 1.0F : 0.0F)) / BATCH;
        }
    }
    product(m->tile, m->gradient, m->batch, 1, INPUTS, m->scores, INPUTS, BATCH);
    for (int i = 0; i < WEIGHTS; i++) {
        square += (double)m->gradient[i] * (double)m->gradient[i];
    }
    *norm = sqrt(square);
    return loss;
}

/* Packs the momentum into `to`; returns what that loses, as a share. */
static double pack(const model *m, state *to)
{
    double lost = 0, all = 0;
    for (int64_t first = 0; first < WEIGHTS; first += to->block) {
        float largest = 0;
        for (int64_t i = first; i < first + to->block; i++) {
            largest = fmaxf(largest, fabsf(m->momentum[i]));
        }
        const float scale = to->scales[first / to->block] = largest > 0 ? largest / 127 : 1;
        for (int64_t i = first; i < first + to->block; i++) {
            to->packed[i] = (int8_t)lrintf(m->momentum[i] / scale);
            const double left = (double)(m->momentum[i] - scale * (float)to->packed[i]);
            lost += left * left;
            all += (double)m->momentum[i] * (double)m->momentum[i];
        }
    }
    return all > 0 ? sqrt(lost / all) : 0;
}

/* One step of SGD; `to` may be `from`. Takes the momentum as `from` has it and leaves it as
 * m->block says. Returns what packing it lost; *nonfinite counts what is no number in `to`. */
static double update(model *m, const state *from, state *to, double rate, double *nonfinite)
{
    *nonfinite = 0;
    for (int i = 0; i < WEIGHTS; i++) {
        const float before = from->block == 1
                                 ? from->momentum[i]
                                 : from->scales[i / from->block] * (float)from->packed[i];
        m->momentum[i] = 0.9F * before + m->gradient[i];
        to->weights[i] = from->weights[i] - (float)rate * m->momentum[i];
        *nonfinite += !isfinite(to->weights[i]);
    }
    to->block = m->block;
    if (to->block > 1) {
        return pack(m, to);
    }
    memcpy(to->momentum, m->momentum, sizeof to->momentum);
    return 0;
}

/* ---- the state as named tensors: a packed momentum is two ---- */

static char *tensor_of(state *s, size_t index, tt_tensor_info *info)
{
    const tt_tensor_info infos[] = {
        {"params/weights", TT_F32, 2, {INPUTS, CLASSES}},
        {"moments/momentum", TT_F32, 2, {INPUTS, CLASSES}},
        {"moments/packed", TT_I8, 2, {INPUTS, CLASSES}},
        {"moments/scales", TT_F32, 1, {WEIGHTS / s->block}},
    };
    void *const bytes[] = {s->weights, s->momentum, s->packed, s->scales};
    const size_t which = index > 0 && s->block > 1 ? index + 1 : index;
    *info = infos[which];
    return bytes[which];
}

/* The other way round: how the momentum was kept, from the tensors that there are. */
static int64_t block_of(const tt_tensor_info *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tensors[i].name, "moments/scales") == 0 && tensors[i].dims[0] > 0) {
            return WEIGHTS / tensors[i].dims[0];
        }
    }
    return 1;
}

#endif
