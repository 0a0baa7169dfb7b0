/* Sampling, and the loop that decodes. */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one token ---- */

/* The lowest index of the largest logit; NaN loses to everything. */
static int64_t argmax(const float *logits, int64_t vocab)
{
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i]))) {
            best = i;
        }
    }
    return best;
}

/* A number that orders as the logit does; 0, below all others, for NaN. */
static uint32_t order_of(float logit)
{
    if (isnan(logit)) {
        return 0;
    }
    uint32_t bits;
    logit += 0.0F; /* -0 is 0 */
    memcpy(&bits, &logit, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

/* How many orders reach `least`. */
static int64_t count_from(const float *logits, int64_t vocab, uint32_t least)
{
    int64_t count = 0;
    for (int64_t i = 0; i < vocab; i++) {
        count += order_of(logits[i]) >= least;
    }
    return count;
}

/* The order of the k-th largest logit (1 <= k <= vocab), bit by bit: 32 sweeps that need no copy
 * and no worst case. */
static uint32_t order_of_largest(const float *logits, int64_t vocab, int64_t k)
{
    uint32_t found = 0;
    for (uint32_t bit = UINT32_C(1) << 31; bit; bit >>= 1) {
        if (count_from(logits, vocab, found | bit) >= k) {
            found |= bit;
        }
    }
    return found;
}

/* Turns `weights` into exp((logit - max) / temperature), 0 for what top-k leaves out (of equal
 * logits at the border the lowest indices stay). Returns the sum, in index order. */
static double weigh(const float *logits, int64_t vocab, double temperature, int64_t top_k,
                    float *weights)
{
    const double largest = (double)logits[argmax(logits, vocab)];
    uint32_t border = 1; /* every number */
    int64_t at_border = vocab;
    if (top_k > 0 && top_k < vocab) {
        border = order_of_largest(logits, vocab, top_k);
        at_border = top_k - count_from(logits, vocab, border + 1);
    }
    double sum = 0.0;
    for (int64_t i = 0; i < vocab; i++) {
        const uint32_t order = order_of(logits[i]);
        bool kept = order && (order > border || (order == border && at_border-- > 0));
        weights[i] = kept ? (float)exp(((double)logits[i] - largest) / temperature) : 0.0F;
        sum += (double)weights[i];
    }
    return sum;
}

int32_t tt_sample_token(const float *logits, int64_t vocab, double temperature, int64_t top_k,
                        double uniform, float *scratch_probabilities)
{
    const int64_t best = argmax(logits, vocab);
    if (!(temperature > 0.0) || !isfinite(logits[best])) {
        return (int32_t)best;
    }
    const double sum = weigh(logits, vocab, temperature, top_k, scratch_probabilities);
    const double wanted = uniform * sum;
    double below = 0.0;
    int64_t last = best;
    for (int64_t i = 0; i < vocab; i++) {
        if (scratch_probabilities[i] > 0.0F) {
            below += (double)scratch_probabilities[i];
            last = i;
            if (wanted < below) {
                break;
            }
        }
    }
    return (int32_t)last; /* rounding at the very end falls on the last that can be */
}

/* ---- many ---- */

/* From so many new tokens on weights are packed ahead, so that each reads half the bytes. It takes
 * as long as two or three unpacked tokens, but up to 35 where the system has yet to find the
 * memory. */
enum { TOKENS_THAT_PAY = 32 };

static const uint64_t sample_stream = UINT64_C(0x5a3b1e0000000000);

/* What the model has seen of the text so far, and where the next token goes. */
typedef struct generation {
    tt_model *model;
    const void *params;
    tt_kv_store *store;
    int64_t room;    /* tokens that store and context take */
    int32_t *window; /* [room]: the tokens whose keys the store holds, and those to come */
    int64_t filled;  /* tokens in the window */
    float *logits, *scratch;
} generation;

/* Puts one token behind the others; a full window first gives up its older half. */
static tt_status push(generation *g, int32_t token)
{
    if (g->filled == g->room) {
        /* Positions are learned: what stays must be decoded again from position 0. */
        int64_t kept = g->room / 2;
        memmove(g->window, g->window + (g->room - kept), (size_t)kept * sizeof *g->window);
        g->filled = kept;
        tt_status status = tt_kv_store_truncate(g->store, 0);
        if (status) {
            return status;
        }
    }
    g->window[g->filled++] = token;
    return TT_OK;
}

/* Decodes what the store does not hold yet. */
static tt_status catch_up(const generation *g)
{
    int64_t held = tt_kv_store_length(g->store);
    return tt_model_decode(g->model, g->params, g->store, g->window + held, g->filled - held,
                           g->logits);
}

static tt_status generate(generation *g, const tt_generation_options *options,
                          bool (*emit)(void *user, int32_t token), void *user)
{
    const int64_t vocab = tt_model_get_dims(g->model)->vocab;
    for (int64_t i = 0; i < options->max_tokens; i++) {
        tt_status status = catch_up(g);
        if (status) {
            return status;
        }
        double uniform = tt_random_uniform(options->seed, sample_stream, (uint64_t)i);
        int32_t token = tt_sample_token(g->logits, vocab, options->temperature, options->top_k,
                                        uniform, g->scratch);
        if (!emit(user, token)) {
            break;
        }
        status = push(g, token);
        if (status) {
            return status;
        }
    }
    return TT_OK;
}

tt_status tt_generate(tt_model *model, const void *params, tt_kv_store *store,
                      const int32_t *prompt, int64_t prompt_tokens,
                      const tt_generation_options *options, bool (*emit)(void *user, int32_t token),
                      void *user)
{
    const tt_model_dims *dims = tt_model_get_dims(model);
    const int64_t capacity = tt_kv_store_capacity(store);
    generation g = {.model = model,
                    .params = params,
                    .store = store,
                    .room = capacity < dims->context ? capacity : dims->context};
    if (prompt_tokens < 1) {
        return tt_fail(TT_EINVAL, "generating needs a prompt of at least one token");
    }
    g.window = malloc((size_t)g.room * sizeof *g.window);
    g.logits = malloc((size_t)dims->vocab * sizeof *g.logits);
    g.scratch = malloc((size_t)dims->vocab * sizeof *g.scratch);
    tt_status status = TT_OK;
    if (!g.window || !g.logits || !g.scratch) {
        status = tt_fail(TT_ENOMEM, "no memory to generate");
        goto out;
    }
    status = tt_kv_store_truncate(store, 0);
    if (status) {
        goto out;
    }
    g.filled = prompt_tokens < g.room ? prompt_tokens : g.room;
    memcpy(g.window, prompt + (prompt_tokens - g.filled), (size_t)g.filled * sizeof *g.window);
    if (options->max_tokens >= TOKENS_THAT_PAY) {
        status = tt_model_pack_for_decoding(model, params);
    }
    if (!status) {
        status = generate(&g, options, emit, user);
    }
    tt_model_unpack_weights(model);
out:
    free(g.window);
    free(g.logits);
    free(g.scratch);
    return status;
}
