/* SHA-256 by OpenSSL (files), xxHash64 (tables in memory). */
#include "trimtab/base.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <xxhash.h>

struct tt_sha256 {
    EVP_MD_CTX *evp;
};

static tt_status crypto_failure(const char *call)
{
    return tt_fail(TT_EINTERNAL, "OpenSSL's %s failed", call);
}

tt_status tt_sha256_create(tt_sha256 **out)
{
    *out = NULL;
    tt_sha256 *hash = calloc(1, sizeof *hash);
    if (!hash) {
        return tt_fail(TT_ENOMEM, "no memory for a digest");
    }
    hash->evp = EVP_MD_CTX_new();
    if (!hash->evp || EVP_DigestInit_ex(hash->evp, EVP_sha256(), NULL) != 1) {
        tt_sha256_destroy(hash);
        return crypto_failure("EVP_DigestInit_ex");
    }
    *out = hash;
    return TT_OK;
}

void tt_sha256_destroy(tt_sha256 *hash)
{
    if (hash) {
        EVP_MD_CTX_free(hash->evp);
        free(hash);
    }
}

tt_status tt_sha256_update(tt_sha256 *hash, const void *data, size_t bytes)
{
    return EVP_DigestUpdate(hash->evp, data, bytes) == 1 ? TT_OK
                                                         : crypto_failure("EVP_DigestUpdate");
}

tt_status tt_sha256_finish(tt_sha256 *hash, char out[TT_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (EVP_DigestFinal_ex(hash->evp, raw, &length) != 1 || length != 32 ||
        EVP_DigestInit_ex(hash->evp, EVP_sha256(), NULL) != 1) {
        return crypto_failure("EVP_DigestFinal_ex");
    }
    for (size_t i = 0; i < 32; i++) {
        out[2 * i] = digits[raw[i] >> 4];
        out[2 * i + 1] = digits[raw[i] & 15];
    }
    out[64] = '\0';
    return TT_OK;
}

tt_status tt_sha256_of(const void *data, size_t bytes, char out[TT_SHA256_HEX])
{
    tt_sha256 *hash;
    tt_status status = tt_sha256_create(&hash);
    if (!hash) {
        return status;
    }
    status = tt_sha256_update(hash, data, bytes);
    if (!status) {
        status = tt_sha256_finish(hash, out);
    }
    tt_sha256_destroy(hash);
    return status;
}

uint64_t tt_hash64(const void *data, size_t bytes, uint64_t seed)
{
    return XXH64(data, bytes, seed);
}
