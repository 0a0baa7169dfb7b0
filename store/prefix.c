/* store/prefix.c: the JSON header and its digest. */
#include "prefix.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bool is_digest(const char *text)
{
    return strlen(text) == TT_SHA256_HEX - 1 &&
           strspn(text, "0123456789abcdef") == TT_SHA256_HEX - 1;
}

static bool is_run_id(const char *text)
{
    size_t length = strlen(text);
    if (length >= sizeof((tt_store_header *)0)->run_id)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    }
    return true;
}

/* ---- encode ------------------------------------------------------------------------------- */

tt_status tt_store_prefix_encode(tt_store_header *header, char block[TT_STORE_PREFIX_BYTES])
{
    if (!is_run_id(header->run_id))
        return tt_fail(TT_EINVAL, "run id '%s': use at most 63 printable ASCII characters",
                       header->run_id);
    if (header->step < 0)
        return tt_fail(TT_EINVAL, "step %lld: must not be negative", (long long)header->step);
    if (header->parent_sha256[0] != '\0' && !is_digest(header->parent_sha256))
        return tt_fail(TT_EINVAL, "parent digest '%s': must be empty or 64 lower-case hex digits",
                       header->parent_sha256);
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:I, s:s, s:I, s:s}", "format", TT_STORE_FORMAT, "version",
                  header->version, "run_id", header->run_id, "step", (json_int_t)header->step,
                  "parent", header->parent_sha256, "payload_bytes",
                  (json_int_t)header->payload_bytes, "payload_sha256", header->payload_sha256);
    if (!root)
        return tt_fail(TT_ENOMEM, "no memory for a container header");
    memset(block, ' ', TT_STORE_HEADER_BYTES);
    /* jansson keeps the order of insertion: the same header is the same bytes. */
    size_t length = json_dumpb(root, block, TT_STORE_HEADER_BYTES - 1, JSON_PRESERVE_ORDER);
    json_decref(root);
    /* What was checked above makes 700 bytes at most: 0 is the only other answer. */
    if (length == 0)
        return tt_fail(TT_ENOMEM, "no memory to write a container header");
    block[TT_STORE_HEADER_BYTES - 1] = '\n';
    tt_status status = tt_sha256_of(block, TT_STORE_HEADER_BYTES, header->header_sha256);
    if (status == TT_OK)
        memcpy(block + TT_STORE_HEADER_BYTES, header->header_sha256, TT_SHA256_HEX - 1);
    return status;
}

/* ---- decode ------------------------------------------------------------------------------- */

static bool get_text(const json_t *root, const char *key, const char **out)
{
    const json_t *value = json_object_get(root, key);
    /* jansson refuses texts with a NUL inside, of which two readers could see two versions. */
    if (!json_is_string(value))
        return false;
    *out = json_string_value(value);
    return true;
}

static bool get_count(const json_t *root, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(root, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = json_integer_value(value);
    return true;
}

/* The name of the first field that is wrong; NULL when all are right. */
static const char *take_fields(const json_t *root, tt_store_header *header)
{
    const char *run_id, *parent, *payload;
    if (!get_text(root, "run_id", &run_id) || !is_run_id(run_id))
        return "run_id";
    if (!get_count(root, "step", &header->step))
        return "step";
    if (!get_text(root, "parent", &parent) || (parent[0] != '\0' && !is_digest(parent)))
        return "parent";
    if (!get_count(root, "payload_bytes", &header->payload_bytes))
        return "payload_bytes";
    if (!get_text(root, "payload_sha256", &payload) || !is_digest(payload))
        return "payload_sha256";
    if (json_object_size(root) != 7)
        return "(a field that version 1 does not have)";
    /* All lengths were checked above. */
    memcpy(header->run_id, run_id, strlen(run_id) + 1);
    memcpy(header->parent_sha256, parent, strlen(parent) + 1);
    memcpy(header->payload_sha256, payload, strlen(payload) + 1);
    return NULL;
}

static tt_status take_header(const json_t *root, const char *path, tt_store_header *header)
{
    const char *format;
    int64_t version;
    if (!get_text(root, "format", &format) || strcmp(format, TT_STORE_FORMAT) != 0)
        return tt_fail(TT_ECORRUPT,
                       "'%s' is not a trimtab container: header field 'format' is "
                       "not '" TT_STORE_FORMAT "'",
                       path);
    if (!get_count(root, "version", &version) || version < 1)
        return tt_fail(TT_ECORRUPT, "'%s': header field 'version' is not a positive number", path);
    if (version > TT_STORE_VERSION)
        return tt_fail(TT_EUNSUPPORTED,
                       "'%s' was written by a newer trimtab (format version %lld, this one reads "
                       "up to %d): read it with that trimtab",
                       path, (long long)version, TT_STORE_VERSION);
    header->version = (int)version;
    const char *wrong = take_fields(root, header);
    if (wrong)
        return tt_fail(TT_ECORRUPT, "'%s': header field '%s' is missing or malformed", path, wrong);
    return TT_OK;
}

tt_status tt_store_prefix_decode(const char block[TT_STORE_PREFIX_BYTES], const char *path,
                                 tt_store_header *header)
{
    memset(header, 0, sizeof *header);
    tt_status status = tt_sha256_of(block, TT_STORE_HEADER_BYTES, header->header_sha256);
    if (status != TT_OK)
        return status;
    if (memcmp(block + TT_STORE_HEADER_BYTES, header->header_sha256, TT_SHA256_HEX - 1) != 0)
        return tt_fail(TT_ECORRUPT,
                       "'%s': header digest does not match: the file is damaged, or is not a "
                       "trimtab container",
                       path);
    json_error_t error;
    json_t *root = json_loadb(block, TT_STORE_HEADER_BYTES, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return tt_fail(TT_ECORRUPT, "'%s': the header is no JSON object: %s", path, error.text);
    }
    status = take_header(root, path, header);
    json_decref(root);
    return status;
}
