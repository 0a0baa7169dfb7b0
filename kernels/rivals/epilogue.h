/* kernels/rivals/epilogue.h: what a plain product of a library still lacks. */
#ifndef TT_RIVALS_EPILOGUE_H
#define TT_RIVALS_EPILOGUE_H

#include "internal.h"

/* y[m,n] += bias[n] (may be NULL). */
void tt_rival_add_bias(const tt_exec *exec, int64_t m, int64_t n, const float *bias, float *y);
/* sums[n] (+)= the column sums of dy[m,n], rows in order; f32, or bf16 as its bits. */
void tt_rival_add_columns_f32(const tt_exec *exec, int64_t m, int64_t n, const float *dy,
                              bool overwrite, float *sums);
void tt_rival_add_columns_bf16(const tt_exec *exec, int64_t m, int64_t n, const uint16_t *dy,
                               bool overwrite, float *sums);
/* gelu = GELU(y), and dx *= gelu'(gelu_x), with the machine's best variant of those operations. */
tt_status tt_rival_gelu(const tt_exec *exec, tt_dtype act, int64_t n, const void *y, void *gelu);
tt_status tt_rival_gelu_slope(const tt_exec *exec, tt_dtype act, int64_t n, const void *gelu_x,
                              void *dx);
/* The same from dx in f32 (`sums`, which is lost) to dx in bf16, rounded once. */
tt_status tt_rival_gelu_slope_to_bf16(const tt_exec *exec, int64_t n, const uint16_t *gelu_x,
                                      float *sums, uint16_t *dx);

#endif
