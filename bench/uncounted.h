/* bench/uncounted.h: the blocked AdamW and statistics, with and without what gates look at. */
#ifndef TRIMTAB_BENCH_UNCOUNTED_H
#define TRIMTAB_BENCH_UNCOUNTED_H

#include <trimtab/kernels.h>

/* `partials`: TT_SUM_ROUND of kernels/internal.h. `counted` false: AdamW without its verdict, which
 * stays as it is; statistics without the count of what is not finite. */
typedef void bench_adamw_fn(int threads, void *partials, const tt_adamw_args *args, bool counted);
typedef void bench_stats_fn(int threads, void *partials, const tt_stats_args *args, bool counted);

enum { BENCH_PARTIALS_BYTES = 1024 * 16 };

bench_adamw_fn bench_adamw__blocked_v1, bench_adamw__blocked_v3, bench_adamw__blocked_v4;
bench_stats_fn bench_stats__blocked_v1, bench_stats__blocked_v3, bench_stats__blocked_v4;

#endif
