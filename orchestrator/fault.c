#include "fault.h"

#include "internal.h"

#include <math.h>
#include <string.h>

/* ---- tensors ---- */

enum { OUTLIERS_APART = 4096 };

static bool is_named(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*') {
        return strncmp(pattern, name, length - 1) == 0;
    }
    return strcmp(pattern, name) == 0;
}

bool tt_fault_begin(tt_tensor_fault *fault, const tt_config *config, int64_t step, int64_t position)
{
    bool acts = step >= fault->step && step <= fault->last &&
                (fault->position < 0 || fault->position == position) &&
                (fault->strikes < 0 || fault->struck < fault->strikes);
    for (int i = 0; i < 2; i++) {
        acts = acts && (!fault->with[i] || tt_optimization_is_on(fault->with[i], config));
    }
    fault->struck += acts;
    fault->active = acts;
    return acts;
}

bool tt_fault_strikes(const tt_tensor_fault *fault, const char *tensor)
{
    return fault->active && is_named(fault->tensor, tensor);
}

void tt_fault_harm(tt_tensor_fault *fault, float *data, int64_t count)
{
    if (count < 1) {
        return;
    }
    fault->harmed++;
    uint32_t bits;
    switch (fault->kind) {
    case TT_FAULT_NAN:
        data[count / 2] = NAN;
        return;
    case TT_FAULT_INFINITY:
        data[count / 2] = INFINITY;
        return;
    case TT_FAULT_SCALE:
        for (int64_t i = 0; i < count; i++) {
            data[i] *= (float)fault->magnitude;
        }
        return;
    case TT_FAULT_NOISE:
        for (int64_t i = 0; i < count; i++) {
            /* Knuth's multiplicative hash: a sign per element that is the same every time. */
            bool up = (uint32_t)i * UINT32_C(2654435761) >> 31;
            data[i] *= (float)(1 + (up ? fault->magnitude : -fault->magnitude));
        }
        return;
    case TT_FAULT_BIT_FLIP:
        memcpy(&bits, &data[count / 2], sizeof bits);
        bits ^= UINT32_C(1) << 30;
        memcpy(&data[count / 2], &bits, sizeof bits);
        return;
    case TT_FAULT_OUTLIERS:
        for (int64_t i = 0; i < count; i += OUTLIERS_APART) {
            data[i] = (float)fault->magnitude;
        }
        return;
    }
}

/* ---- the clock ---- */

static uint64_t now_faulty(void *user)
{
    tt_clock_fault *fault = user;
    tt_clock real = tt_clock_monotonic();
    uint64_t now = tt_clock_now(&real);
    bool jumped = atomic_fetch_add(&fault->readings, 1) >= fault->at;
    return jumped ? now + (uint64_t)fault->jump_ns : now;
}

void tt_clock_fault_init(tt_clock_fault *fault, int64_t at, int64_t jump_ns)
{
    memset(fault, 0, sizeof *fault);
    fault->at = at;
    fault->jump_ns = jump_ns;
    fault->clock = (tt_clock){.now_ns = now_faulty, .user = fault};
}
