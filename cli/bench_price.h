/* The price of the class exact: what equal bits for any tile, thread count and split cost. */
#ifndef TRIMTAB_CLI_BENCH_PRICE_H
#define TRIMTAB_CLI_BENCH_PRICE_H

#include "bench_measure.h"

#include <jansson.h>

/* Time of the fastest exact variant over that of the fastest of any other class, weights not packed
 * ahead: for each operation and compute type the geometric mean over its shapes, and that of all of
 * them. Operations whose variants are all exact pay nothing; they are listed. */
void bench_draw_price(const bench_result *results, size_t count, tt_text *out);
json_t *bench_price_json(const bench_result *results, size_t count);

#endif
