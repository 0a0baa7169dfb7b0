/* Codecs: their names, the place of an encoded tensor, and what a loss amounts to. */
#include "internal.h"

static const char *const names[TT_CODEC_COUNT] = {"f32", "bf16", "int8", "uint8_up"};

const char *tt_codec_name(tt_codec codec)
{
    return (unsigned)codec < TT_CODEC_COUNT ? names[codec] : "?";
}

bool tt_codec_parse(const char *name, tt_codec *out)
{
    for (int codec = 0; name != NULL && codec < TT_CODEC_COUNT; codec++)
        if (strcmp(name, names[codec]) == 0) {
            *out = (tt_codec)codec;
            return true;
        }
    return false;
}

static size_t padded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t tt_codec_scales_offset(tt_codec codec, int64_t n)
{
    return n > 0 ? padded((size_t)n * tt_codec_code_size(codec)) : 0;
}

size_t tt_codec_bytes(tt_codec codec, int64_t block, int64_t n)
{
    size_t bytes = tt_codec_scales_offset(codec, n);
    if (n > 0 && tt_codec_has_scales(codec) && block > 0)
        bytes += padded((size_t)((n - 1) / block + 1) * sizeof(float));
    return bytes;
}

double tt_codec_loss_ratio(const tt_codec_loss *loss)
{
    if (loss->nonfinite > 0 || !isfinite(loss->error_squares) || !isfinite(loss->norm_squares))
        return INFINITY;
    if (loss->error_squares == 0)
        return 0;
    return loss->norm_squares == 0 ? INFINITY : sqrt(loss->error_squares / loss->norm_squares);
}
