#include "fault.h"

#include "internal.h"

#include <math.h>
#include <string.h>

/* ---- tensors ---- */

static tt_status apply_observed(void *user, const tt_config *config);

static tt_status propose_observed(void *user, const tt_config *config, tt_proposal *out)
{
    tt_fault_switch *observed = user;
    return observed->real.propose(observed->real.user, config, out);
}

static tt_status conform_observed(void *user, const tt_config *config)
{
    tt_fault_switch *observed = user;
    return observed->real.conform(observed->real.user, config);
}

tt_optimization tt_fault_watch(const tt_optimization *real, tt_fault_switch *out)
{
    *out = (tt_fault_switch){.real = *real};
    tt_optimization observed = *real;
    observed.user = out;
    observed.apply = apply_observed;
    observed.propose = real->propose ? propose_observed : NULL;
    observed.conform = real->conform ? conform_observed : NULL;
    return observed;
}

static tt_status apply_observed(void *user, const tt_config *config)
{
    tt_fault_switch *observed = user;
    tt_status status = observed->real.apply(observed->real.user, config);
    if (!status) {
        observed->on = tt_optimization_is_on(&observed->real, config);
    }
    return status;
}

static bool is_named(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*') {
        return strncmp(pattern, name, length - 1) == 0;
    }
    return strcmp(pattern, name) == 0;
}

bool tt_fault_strikes(tt_tensor_fault *fault, const char *tensor, int64_t step, int64_t position)
{
    for (int i = 0; i < 2; i++) {
        if (fault->with[i] && !fault->with[i]->on) {
            return false;
        }
    }
    bool here = step >= fault->step && (fault->position < 0 || fault->position == position) &&
                (fault->strikes < 0 || fault->struck < fault->strikes) &&
                is_named(fault->tensor, tensor);
    fault->struck += here;
    return here;
}

void tt_fault_harm(const tt_tensor_fault *fault, float *data, int64_t count)
{
    if (count < 1) {
        return;
    }
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
