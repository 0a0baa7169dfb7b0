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

/* Rows of a panel, contiguous in memory: copied. */
TT_INLINE void copy_lines(tt_source source, float *to, int64_t panel, int64_t count, int64_t k,
                          const void *from, int64_t stride)
{
    if (count == panel && source == SOURCE_F32) {
        for (int64_t p = 0; p < k; p++)
            memcpy(to + p * panel, (const float *)from + p * stride, (size_t)panel * sizeof *to);
        return;
    }
    for (int64_t p = 0; p < k; p++) {
        int64_t i = 0;
        for (; i + TT_LANES <= count; i += TT_LANES)
            tt_vstore(to + p * panel + i, load(source, from, p * stride + i));
        for (; i < panel; i++)
            to[p * panel + i] = i < count ? load_one(source, from, p * stride + i) : 0;
    }
}

TT_INLINE void pack_a(tt_source source, float *to, int64_t rows, int64_t k, tt_operand a)
{
    for (int64_t i = 0; i < rows; i += TT_MR) {
        int64_t here = tt_min64(TT_MR, rows - i);
        const void *from = tt_operand_at(a, i, 0).data;
        if (a.column == 1)
            transpose_lines(source, to + i * k, TT_MR, here, TT_MR, k, from, a.row);
        else
            copy_lines(source, to + i * k, TT_MR, here, k, from, a.column);
    }
}

TT_INLINE void pack_b(tt_source source, float *to, int64_t k, int64_t columns, tt_operand b)
{
    for (int64_t j = 0; j < columns; j += TT_NR) {
        int64_t here = tt_min64(TT_NR, columns - j);
        const void *from = tt_operand_at(b, 0, j).data;
        if (b.column == 1) {
            copy_lines(source, to + j * k, TT_NR, here, k, from, b.row);
            continue;
        }
        for (int64_t i = 0; i < TT_NR; i += TT_LANES)
            transpose_lines(source, to + j * k + i, TT_NR, here - i, TT_LANES, k,
                            tt_operand_at(b, 0, j + i).data, b.column);
    }
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
