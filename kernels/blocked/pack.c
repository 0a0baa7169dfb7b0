/* Packing of operands into panels of floats; see gemm.h. */
#include "gemm.h"
#include "vbf16.h"

/* The elements of an operand: a constant wherever it is used, so that each gets code of its own. */
typedef enum tt_source { SOURCE_F32, SOURCE_ROUNDED, SOURCE_BF16 } tt_source;

static tt_source source_of(tt_operand a)
{
    return a.bf16 ? SOURCE_BF16 : a.round ? SOURCE_ROUNDED : SOURCE_F32;
}

/* TT_LANES elements from element i on. */
TT_INLINE tt_vf load(tt_source source, const void *data, int64_t i)
{
    if (source == SOURCE_BF16)
        return tt_vload_bf16((const uint16_t *)data + i);
    tt_vf v = tt_vload((const float *)data + i);
    return source == SOURCE_ROUNDED ? tt_vround_bf16(v) : v;
}

TT_INLINE float load_one(tt_source source, const void *data, int64_t i)
{
    if (source == SOURCE_BF16)
        return tt_bf16_to_f32(((const uint16_t *)data)[i]);
    float x = ((const float *)data)[i];
    return source == SOURCE_ROUNDED ? tt_bf16_to_f32(tt_bf16_from_f32(x)) : x;
}

/* `width` vectors of the operand, contiguous in k, as columns of a panel: transposed in registers,
 * TT_LANES of k at a time. Storing whole vectors may leave rubbish behind each row of the panel,
 * which the next one overwrites (hence the slack in TT_PACKED_A). */
TT_INLINE void transpose_lines(tt_source source, float *to, int64_t panel, int64_t count,
                               int64_t width, int64_t k, const void *from, int64_t stride)
{
    int64_t p = 0;
    for (; p + TT_LANES <= k; p += TT_LANES) {
        tt_vf v[TT_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            v[i] = i < width && i < count ? load(source, from, i * stride + p) : (tt_vf){0};
        tt_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < TT_LANES; i++)
            tt_vstore(to + (p + i) * panel, v[i]);
    }
    for (; p < k; p++)
        for (int64_t i = 0; i < width; i++)
            to[p * panel + i] = i < count ? load_one(source, from, i * stride + p) : 0;
}

/* `panels` whole panels whose rows are contiguous in memory: copied, side by side, so that whole
 * cache lines are read. Vectors may reach over the end of a panel's row, but for the last row: what
 * they read there is the next one's, what they write there it overwrites. */
TT_INLINE void copy_panels(tt_source source, float *to, int64_t panel, int64_t panels, int64_t k,
                           const void *from, int64_t stride)
{
    int64_t whole = panel % TT_LANES == 0 ? k : k - 1, p = 0;
    for (; p < whole; p++)
        for (int64_t g = 0; g < panels; g++)
            for (int64_t i = 0; i < panel; i += TT_LANES)
                tt_vstore(to + (g * k + p) * panel + i,
                          load(source, from, p * stride + g * panel + i));
    for (; p < k; p++)
        for (int64_t g = 0; g < panels; g++)
            for (int64_t i = 0; i < panel; i++)
                to[(g * k + p) * panel + i] = load_one(source, from, p * stride + g * panel + i);
}

/* A panel of which only `count` lines are there. */
TT_INLINE void copy_part(tt_source source, float *to, int64_t panel, int64_t count, int64_t k,
                         const void *from, int64_t stride)
{
    for (int64_t p = 0; p < k; p++)
        for (int64_t i = 0; i < panel; i++)
            to[p * panel + i] = i < count ? load_one(source, from, p * stride + i) : 0;
}

/* `count` lines of a matrix whose rows are contiguous, as panels. */
TT_INLINE void copy_lines(tt_source source, float *to, int64_t panel, int64_t count, int64_t k,
                          tt_operand lines, int64_t stride)
{
    const int64_t side_by_side = 64 / panel;
    for (int64_t i = 0, panels; i < count; i += panels * panel) {
        const char *from = (const char *)lines.data + i * (lines.bf16 ? 2 : 4);
        panels = tt_min64(side_by_side, (count - i) / panel);
        if (panels == side_by_side) {
            copy_panels(source, to + i * k, panel, side_by_side, k, from, stride);
        } else if (panels > 0) {
            panels = 1;
            copy_panels(source, to + i * k, panel, 1, k, from, stride);
        } else {
            panels = 1;
            copy_part(source, to + i * k, panel, count - i, k, from, stride);
        }
    }
}

TT_INLINE void pack_a(tt_source source, float *to, int64_t rows, int64_t k, tt_operand a)
{
    if (a.column != 1) {
        copy_lines(source, to, TT_MR, rows, k, a, a.column);
        return;
    }
    for (int64_t i = 0; i < rows; i += TT_MR)
        transpose_lines(source, to + i * k, TT_MR, rows - i, TT_MR, k, tt_operand_at(a, i, 0).data,
                        a.row);
}

TT_INLINE void pack_b(tt_source source, float *to, int64_t k, int64_t columns, tt_operand b)
{
    if (b.column == 1) {
        copy_lines(source, to, TT_NR, columns, k, b, b.row);
        return;
    }
    for (int64_t j = 0; j < columns; j += TT_NR)
        for (int64_t i = 0; i < TT_NR; i += TT_LANES)
            transpose_lines(source, to + j * k + i, TT_NR, columns - j - i, TT_LANES, k,
                            tt_operand_at(b, 0, j + i).data, b.column);
}

void TT_BLOCKED(tt_pack_a)(tt_panel *to, int64_t rows, int64_t k, tt_operand a)
{
    switch (source_of(a)) {
    case SOURCE_F32:
        pack_a(SOURCE_F32, to, rows, k, a);
        break;
    case SOURCE_ROUNDED:
        pack_a(SOURCE_ROUNDED, to, rows, k, a);
        break;
    case SOURCE_BF16:
        pack_a(SOURCE_BF16, to, rows, k, a);
        break;
    }
}

void TT_BLOCKED(tt_pack_b)(tt_panel *to, int64_t k, int64_t columns, tt_operand b)
{
    switch (source_of(b)) {
    case SOURCE_F32:
        pack_b(SOURCE_F32, to, k, columns, b);
        break;
    case SOURCE_ROUNDED:
        pack_b(SOURCE_ROUNDED, to, k, columns, b);
        break;
    case SOURCE_BF16:
        pack_b(SOURCE_BF16, to, k, columns, b);
        break;
    }
}
