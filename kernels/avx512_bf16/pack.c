/* Packing for pairs; see pairs.h. Both operands become panels of TT_MR rows or TT_NR columns,
 * [k / 2][TT_MR or TT_NR][2]. What is missing is zero.
 *
 * f32 is rounded to nearest even; denormals become zero, which is what the products would make of
 * them anyway. */
#include "blocked/gemm.h"
#include "pairs.h"

/* Elements [at, at + 16) of two lines in turn, of which n count; of `odd` or none. */
TT_INLINE tt_vf load_pairs(const void *data, int64_t at, int64_t stride, bool odd, int64_t n,
                           bool bf16)
{
    const int64_t n_odd = odd ? n : 0, at_odd = odd ? at + stride : at;
    if (bf16) {
        const uint16_t *from = data;
        return tt_zip_halves(
            tt_join_32(tt_load_16(from + at, n), tt_load_16(from + at_odd, n_odd)));
    }
    const float *from = data;
    return tt_zip_halves(
        tt_round_32(tt_load_floats(from + at, n), tt_load_floats(from + at_odd, n_odd)));
}

/* What is stored beyond a row of the panel, the next one overwrites, or the next panel; hence the
 * slack in TT_PACKED_A. */
TT_INLINE void store_pairs(tt_panel *to, int64_t pair, int64_t width, tt_vf v)
{
    tt_vstore((float *)(void *)(to + 2 * pair * width), v);
}

/* What comes later, of lines far apart: nothing but software foresees them. In bytes. */
enum { LINE = 64, ALONG_LINES = 512, LINES = 16 };

/* `bytes` that lie `ahead` of `from`. */
TT_INLINE void fetch(const void *from, int64_t ahead, int64_t bytes)
{
    const char *at = (const char *)from + ahead;
    for (int64_t i = 0; i < bytes; i += LINE)
        __builtin_prefetch(at + i);
}

/* `width` <= 16 lines, contiguous in k, as columns of a panel: transposed in registers, 32 of k at
 * a time. `count` of them are there. */
TT_INLINE void transpose_lines(tt_panel *to, int64_t panel, int64_t width, int64_t count, int64_t k,
                               const void *from, int64_t stride, bool bf16)
{
    const int64_t element = bf16 ? 2 : 4;
    for (int64_t p = 0; p < k; p += 32) {
        tt_vf v[TT_LANES];
        for (int64_t i = 0; i < width && i < count; i++)
            fetch((const char *)from + (i * stride + p) * element, ALONG_LINES, 32 * element);
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = i < width && i < count ? (tt_vf)tt_load_line(from, i * stride + p, k - p, bf16)
                                          : (tt_vf){0};
        tt_transpose(v);
        if (k - p > 30) {
#pragma GCC unroll 16
            for (int i = 0; i < TT_LANES; i++)
                store_pairs(to, p / 2 + i, panel, v[i]);
        } else {
            for (int i = 0; 2 * i < k - p; i++)
                store_pairs(to, p / 2 + i, panel, v[i]);
        }
    }
}

/* No more than the row. */
TT_INLINE void store_last_pairs(tt_panel *to, int64_t pair, int64_t width, int64_t n, tt_vf v)
{
    memcpy(to + 2 * pair * width, &v, (size_t)n * sizeof(tt_pair));
}

/* Panels that are packed side by side, so that whole cache lines are read. */
#define SIDE_BY_SIDE(panel) (64 / (panel))

/* `count` lines of a matrix whose rows are contiguous, as `panels` panels, of which the last may be
 * a part. */
TT_INLINE void zip_rows(tt_panel *to, int64_t panel, int64_t panels, int64_t count, int64_t k,
                        const void *from, int64_t stride, bool bf16)
{
    const int64_t depth = TT_PADDED(k, TT_KU);
    const int64_t element = bf16 ? 2 : 4;
    for (int64_t p = 0; p < k; p += 2) {
        for (int64_t line = p; line < p + 2; line++)
            fetch((const char *)from + line * stride * element, LINES * stride * element,
                  count * element);
        for (int64_t g = 0; g < panels; g++)
            for (int64_t i = 0; i < panel; i += TT_LANES) {
                int64_t at = g * panel + i, width = tt_min64(TT_LANES, panel - i);
                int64_t here = tt_max64(tt_min64(width, count - at), 0);
                tt_panel *row = to + g * panel * depth + 2 * i;
                tt_vf v = load_pairs(from, p * stride + at, stride, p + 1 < k, here, bf16);
                if (width == TT_LANES || p + 2 < k) /* the panel beside it is there already */
                    store_pairs(row, p / 2, panel, v);
                else
                    store_last_pairs(row, p / 2, panel, width, v);
            }
    }
}

/* o(i, p) is element p of row or column i. */
TT_INLINE void pack(tt_panel *to, int64_t panel, int64_t count, int64_t k, tt_operand o, bool bf16)
{
    const int64_t depth = TT_PADDED(k, TT_KU), side = SIDE_BY_SIDE(panel);
    if (o.column != 1) {
        for (int64_t i = 0, panels; i < count; i += panels * panel) {
            const void *from = tt_operand_at(o, i, 0).data;
            panels = count - i >= side * panel ? side : 1;
            if (panels == side)
                zip_rows(to + i * depth, panel, side, side * panel, k, from, o.column, bf16);
            else
                zip_rows(to + i * depth, panel, 1, count - i, k, from, o.column, bf16);
        }
        return;
    }
    for (int64_t i = 0; i < count; i += panel)
        for (int64_t j = 0; j < panel; j += TT_LANES)
            transpose_lines(to + i * depth + 2 * j, panel, tt_min64(TT_LANES, panel - j),
                            count - i - j, k, tt_operand_at(o, i + j, 0).data, o.row, bf16);
}

void TT_BLOCKED(tt_pack_a)(tt_panel *to, int64_t rows, int64_t k, tt_operand a)
{
    /* It is always made of activations. */
    pack(to, TT_MR, rows, k, a, true);
}

void TT_BLOCKED(tt_pack_b)(tt_panel *to, int64_t k, int64_t columns, tt_operand b)
{
    const tt_operand o = {b.data, b.column, b.row, b.bf16, b.round}; /* o(j, p) = b(p, j) */
    if (b.bf16)
        pack(to, TT_NR, columns, k, o, true);
    else
        pack(to, TT_NR, columns, k, o, false);
}
