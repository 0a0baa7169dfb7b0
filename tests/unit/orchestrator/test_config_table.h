/* A small parameter table with one of everything, for the configuration tests. */
#ifndef TEST_CONFIG_TABLE_H
#define TEST_CONFIG_TABLE_H

#include "trimtab/config.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on

/* Keys: data.path, gates.loss.max, gates.warn, kernels.{backend,threads,tile_k,tile_m},
 * model.{dim,vocab}, optim.{clip,rate}, preset, run.{name,tag}, seed.
 * Presets: small (tile_m 16, rate 0.5, clip 0), large (tile_m 256, dim 1024). */
tt_params *test_params(void);

tt_config *test_config(const tt_params *params);

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != TT_OK)                                                                       \
            fail_msg("%s: %s", #call, tt_error_message());                                         \
    } while (0)

/* The call fails with this status and this message. */
#define assert_fails(call, status, message)                                                        \
    do {                                                                                           \
        assert_int_equal(call, status);                                                            \
        assert_string_equal(tt_error_message(), message);                                          \
    } while (0)

/* The winner as write_yaml would write it. The caller's buffer is returned. */
const char *value_text(const tt_config *config, const char *key, char out[256]);

#define assert_value(config, key, text)                                                            \
    do {                                                                                           \
        char value_buffer[256];                                                                    \
        assert_string_equal(value_text(config, key, value_buffer), text);                          \
    } while (0)

#endif
