#include "checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Puts what the link `latest` at the end of `path` names in its place: that name is worth more. */
static void follow_link(char path[CLI_PATH_BYTES])
{
    char target[CLI_PATH_BYTES];
    char *last = strrchr(path, '/') + 1;
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length > 0 && !memchr(target, '/', (size_t)length) &&
        (size_t)(last - path) + (size_t)length < CLI_PATH_BYTES) {
        memcpy(last, target, (size_t)length);
        last[length] = '\0';
    }
}

tt_status cli_checkpoint_path(const char *given, char out[CLI_PATH_BYTES])
{
    struct stat info;
    if (strlen(given) >= CLI_PATH_BYTES - 32) {
        return tt_fail(TT_EUSAGE, "the checkpoint's path is too long");
    }
    snprintf(out, CLI_PATH_BYTES, "%s", given);
    if (stat(out, &info) != 0) {
        return tt_fail_errno(errno, "cannot open checkpoint %s", given);
    }
    if (S_ISREG(info.st_mode)) {
        return TT_OK;
    }
    if (!S_ISDIR(info.st_mode)) {
        return tt_fail(TT_EIO, "%s is neither a checkpoint file nor the folder of a run", given);
    }
    static const char *const places[] = {"checkpoints/latest", "latest"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(out, CLI_PATH_BYTES, "%s/%s", given, places[i]);
        if (stat(out, &info) == 0) {
            follow_link(out);
            return TT_OK;
        }
    }
    return tt_fail(TT_ENOTFOUND, "the folder %s holds no checkpoint (no checkpoints/latest)",
                   given);
}

tt_status cli_checkpoint_open(const char *given, char path[CLI_PATH_BYTES], tt_store **out)
{
    *out = NULL;
    tt_status status = cli_checkpoint_path(given, path);
    return status ? status : tt_store_open(path, out);
}

tt_dtype cli_element_type(const tt_store_entry *entry)
{
    return entry->dtype == TT_U16 && strstr(entry->path, "bf16/") ? TT_BF16 : entry->dtype;
}

int64_t cli_element_count(const tt_store_entry *entry)
{
    size_t size = tt_dtype_size(entry->dtype);
    return size ? entry->bytes / (int64_t)size : 0;
}

#define WIDEN(type)                                                                                \
    for (size_t i = 0; i < count; i++) {                                                           \
        out[i] = (double)((const type *)raw)[i];                                                   \
    }                                                                                              \
    break

static void widen_bf16(const uint16_t *raw, size_t count, double *out)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)raw[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        out[i] = (double)value;
    }
}

tt_status cli_read_elements(const tt_store *store, const tt_store_entry *entry, int64_t first,
                            size_t count, void *raw, double *out)
{
    size_t size = tt_dtype_size(entry->dtype);
    tt_status status = tt_store_read(store, entry, first * (int64_t)size, raw, count * size);
    if (status) {
        return status;
    }
    switch (cli_element_type(entry)) {
    case TT_I8:
        WIDEN(int8_t);
    case TT_U8:
        WIDEN(uint8_t);
    case TT_U16:
        WIDEN(uint16_t);
    case TT_I32:
        WIDEN(int32_t);
    case TT_I64:
        WIDEN(int64_t);
    case TT_U64:
        WIDEN(uint64_t);
    case TT_F32:
        WIDEN(float);
    case TT_F64:
        WIDEN(double);
    case TT_BF16:
        widen_bf16(raw, count, out);
        break;
    }
    return TT_OK;
}

bool cli_is_tensor(const tt_store_entry *entry, const char **name)
{
    static const char prefix[] = "/tensors/";
    *name = entry->path + sizeof prefix - 1;
    return strncmp(entry->path, prefix, sizeof prefix - 1) == 0;
}

const char *cli_shape(const tt_store_entry *entry, char out[96])
{
    size_t used = 0;
    snprintf(out, 96, "scalar");
    for (int i = 0; i < entry->rank && used < 96; i++) {
        int wrote =
            snprintf(out + used, 96 - used, "%s%lld", i ? "x" : "", (long long)entry->dims[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    return out;
}
