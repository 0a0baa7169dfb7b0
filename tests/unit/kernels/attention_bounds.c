/* Bounds of attention, from roundings and lengths; and, element by element, what it may change that
 * a variant rounds its weights to bf16. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>

/* One query head of one sequence: rows of out and its gradient are `channels` apart. */
typedef struct head {
    const double *q, *k, *v, *dout, *lse; /* the last two backward only */
    int64_t q_stride, kv_stride, channels, size;
    int64_t position, count; /* of the queries */
} head;

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double score(const head *h, int64_t i, int64_t j)
{
    return dot(h->q + i * h->q_stride, h->k + j * h->kv_stride, h->size) / sqrt((double)h->size);
}

/* out is divided by the sum of the rounded weights. With p (1 + d) in the place of p, |d| <= u, it
 * moves by no more than u / (1 - u) times the mean of |v - out|. */
static void bound_out(const head *h, const double *out, double u, double *bound)
{
    double *p = calloc((size_t)(h->position + h->count), sizeof *p);
    for (int64_t i = 0; i < h->count; i++) {
        int64_t keys = h->position + i + 1;
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < keys; j++)
            max = fmax(max, p[j] = score(h, i, j));
        for (int64_t j = 0; j < keys; j++)
            sum += p[j] = exp(p[j] - max);
        for (int64_t j = 0; j < keys; j++)
            for (int64_t c = 0; c < h->size; c++)
                bound[i * h->channels + c] +=
                    u / (1 - u) * p[j] / sum *
                    fabs(h->v[j * h->kv_stride + c] - out[i * h->channels + c]);
    }
    free(p);
}

/* dv = p^T dout, dk = ds^T q, dq = ds k with p and ds rounded: u times the sums over magnitudes.
 * Bounds are laid out as qkv is. */
static void bound_gradients(const head *h, const double *out, double u, double *of_q, double *of_k,
                            double *of_v)
{
    for (int64_t i = 0; i < h->count; i++) {
        const double *dout = h->dout + i * h->channels, *q = h->q + i * h->q_stride;
        double delta = dot(dout, out + i * h->channels, h->size);
        for (int64_t j = 0; j <= i; j++) {
            double p = exp(score(h, i, j) - h->lse[i]);
            double ds = p * (dot(dout, h->v + j * h->kv_stride, h->size) - delta);
            ds = fabs(ds) / sqrt((double)h->size);
            for (int64_t c = 0; c < h->size; c++) {
                of_q[i * h->q_stride + c] += u * ds * fabs(h->k[j * h->kv_stride + c]);
                of_k[j * h->kv_stride + c] += u * ds * fabs(q[c]);
                of_v[j * h->kv_stride + c] += u * p * fabs(dout[c]);
            }
        }
    }
}

/* Adds them for every head. */
static void bound_rounded_weights(const kt_case *in, const kt_case *expected, double *bound)
{
    const double u = 0x1p-8;
    bool cached = in->op == TT_OP_ATTENTION_CACHED, backward = in->op == TT_OP_ATTENTION_BACKWARD;
    int64_t heads = in->size[2], kv_heads = in->with.kv_heads > 0 ? in->with.kv_heads : heads;
    int64_t channels = in->size[3], size = channels / heads, batch = cached ? 1 : in->size[0];
    int64_t wide = channels + 2 * kv_heads * size, count = in->size[cached ? 0 : 1];
    for (int64_t b = 0; b < batch; b++)
        for (int64_t n = 0; n < heads; n++) {
            int64_t q = b * count * wide + n * size;
            int64_t k = b * count * wide + channels + n / (heads / kv_heads) * size;
            int64_t v = k + kv_heads * size, out = b * count * channels + n * size;
            head h = {.q = in->t[0].value + q,
                      .k = in->t[0].value + k,
                      .v = in->t[0].value + v,
                      .q_stride = wide,
                      .kv_stride = wide,
                      .channels = channels,
                      .size = size,
                      .count = count};
            if (cached) {
                h.k = in->t[1].value + n / (heads / kv_heads) * size;
                h.v = in->t[2].value + n / (heads / kv_heads) * size;
                h.q_stride = in->size[4];
                h.kv_stride = kv_heads * size;
                h.position = in->size[1];
            }
            if (!backward) {
                bound_out(&h, expected->t[cached ? 3 : 1].value + out, u, bound + out);
                continue;
            }
            h.lse = in->t[2].value + (b * heads + n) * count;
            h.dout = in->t[3].value + out;
            bound_gradients(&h, in->t[1].value + out, u, bound + q, bound + k, bound + v);
        }
}

/* A score has the error of its dot product (twenty times the usual one, as in tune_check.c); it is
 * what the exponential's relative error comes from. */
void kt_bound_attention(const kt_case *in, const kt_case *expected, int k, bool rounded_weights,
                        double *bound)
{
    bool cached = in->op == TT_OP_ATTENTION_CACHED;
    int64_t heads = in->size[2], size = in->size[3] / heads;
    int64_t time = cached ? in->size[0] + in->size[1] : in->size[1];
    if (in->op == TT_OP_ATTENTION_BACKWARD && in->with.kv_heads > 0)
        time *= heads / in->with.kv_heads; /* queries that add to a key's gradient */
    double norm = kt_largest_row_norm(in->t[0].value, in->t[0].n / size, size), norm_k = norm;
    if (cached)
        norm_k = kt_largest_row_norm(in->t[1].value, in->t[1].n / size, size);
    double of_score = 8 * kt_unit * norm * norm_k / sqrt((double)size);
    double rounds = 4 * of_score + ((double)time / 4 + 32) * kt_unit;
    double value = kt_largest(&in->t[cached ? 2 : 0]);
    double limit = rounds * value;
    bool lse = in->op == TT_OP_ATTENTION_FORWARD && k == 2;
    if (lse)
        limit = rounds * fmax(1, kt_largest(&expected->t[2]));
    if (in->op == TT_OP_ATTENTION_BACKWARD) {
        double dout = kt_largest_row_norm(in->t[3].value, in->t[3].n / size, size);
        limit = rounds * (kt_largest(&expected->t[4]) + dout * norm * value / sqrt((double)size));
    }
    for (int64_t i = 0; i < in->t[k].n; i++)
        bound[i] = limit;
    if (rounded_weights && !lse) /* the log-sum-exp is that of the weights as they are */
        bound_rounded_weights(in, expected, bound);
}
