/* store/layout.c: names and shapes. */
#include "layout.h"

#include <string.h>

bool tt_store_is_name(const char *name, size_t length)
{
    if (length == 0 || (length == 1 && name[0] == '.') ||
        (length == 2 && name[0] == '.' && name[1] == '.'))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (name[i] < 0x21 || name[i] > 0x7e || name[i] == '/')
            return false;
    }
    return true;
}

const char *tt_store_path_fault(const char *path)
{
    if (path[0] != '/')
        return "it does not start with '/'";
    if (strnlen(path, TT_STORE_MAX_NAME) == TT_STORE_MAX_NAME) /* the array of an entry ends here */
        return "it is longer than 191 bytes";
    int depth = 0;
    for (const char *name = path + 1;; depth++) {
        const char *end = strchrnul(name, '/');
        if (!tt_store_is_name(name, (size_t)(end - name)))
            return "a name in it is empty, '.', '..' or has characters other than printable ASCII";
        if (*end == '\0')
            break;
        name = end + 1;
    }
    return depth < TT_STORE_MAX_DEPTH ? NULL : "it is nested more than 16 deep";
}

bool tt_store_shape_bytes(tt_dtype dtype, int rank, const int64_t *dims, int64_t *bytes)
{
    int64_t size = (int64_t)tt_dtype_size(dtype);
    bool empty = false;
    if (size == 0 || dtype == TT_BF16 || rank < 0 || rank > TT_STORE_MAX_RANK)
        return false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return false;
        empty |= dims[i] == 0;
    }
    for (int i = 0; i < rank && !empty; i++) {
        if (__builtin_mul_overflow(size, dims[i], &size) || size > INT64_C(1) << 62)
            return false;
    }
    *bytes = empty ? 0 : size;
    return true;
}
