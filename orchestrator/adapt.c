#include "adapt.h"

#include <math.h>

/* All that is measured here is a share or a ratio: what is not finite, or negative, is no
 * measurement. */
static bool is_measured(tt_adapt_input input)
{
    return input.present && isfinite(input.value) && input.value >= 0;
}

tt_adapt_move tt_adapt_codec(tt_adapt_input error, double bound)
{
    if (!is_measured(error)) {
        return TT_ADAPT_HOLD;
    }
    if (error.value > TT_ADAPT_ERROR_HIGH * bound) {
        return TT_ADAPT_UP;
    }
    return error.value < TT_ADAPT_ERROR_LOW * bound ? TT_ADAPT_DOWN : TT_ADAPT_HOLD;
}

tt_adapt_move tt_adapt_tile(tt_adapt_input speedup)
{
    if (!is_measured(speedup)) {
        return TT_ADAPT_HOLD;
    }
    if (speedup.value > TT_ADAPT_SPEEDUP_HIGH) {
        return TT_ADAPT_UP;
    }
    return speedup.value < TT_ADAPT_SPEEDUP_LOW ? TT_ADAPT_DOWN : TT_ADAPT_HOLD;
}

bool tt_adapt_neighbour(size_t count, size_t at, tt_adapt_move move, size_t *out)
{
    if (move == TT_ADAPT_HOLD || at >= count) {
        return false;
    }
    if (at == (move == TT_ADAPT_UP ? count - 1 : 0)) {
        return false;
    }
    *out = move == TT_ADAPT_UP ? at + 1 : at - 1;
    return true;
}

void tt_adapt_remember(tt_adapt_refusal *refusal, tt_adapt_move move, double input, int64_t step)
{
    *refusal = (tt_adapt_refusal){.refused = true, .move = move, .input = input, .step = step};
}

bool tt_adapt_may(const tt_adapt_refusal *refusal, tt_adapt_move move, double input, int64_t step)
{
    if (!refusal->refused || move != refusal->move) {
        return true;
    }
    double moved = input > refusal->input ? input - refusal->input : refusal->input - input;
    /* From zero, any change is a large one; none is not. */
    if (moved > 0 && moved >= TT_ADAPT_MOVED * refusal->input) {
        return true;
    }
    return step - refusal->step >= TT_ADAPT_PATIENCE;
}
