#include "trimtab/base.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TT_U8] = {"u8", 1},   [TT_U16] = {"u16", 2}, [TT_I32] = {"i32", 4},
    [TT_I64] = {"i64", 8}, [TT_U64] = {"u64", 8}, [TT_F32] = {"f32", 4},
    [TT_F64] = {"f64", 8}, [TT_I8] = {"i8", 1},   [TT_BF16] = {"bf16", 2},
};

static bool is_dtype(tt_dtype dtype)
{
    return dtype >= TT_U8 && dtype <= TT_BF16;
}

size_t tt_dtype_size(tt_dtype dtype)
{
    return is_dtype(dtype) ? dtypes[dtype].size : 0;
}

const char *tt_dtype_name(tt_dtype dtype)
{
    return is_dtype(dtype) ? dtypes[dtype].name : "?";
}
