/* The parameter table: what it refuses, and the pages made from it. */
#include "test_config_table.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const tt_param good = {.key = "a.b",
                              .type = TT_TYPE_INT,
                              .unit = "",
                              .default_text = "4",
                              .minimum = 0,
                              .maximum = 8,
                              .mutability = TT_MUTABLE_AT_STEP,
                              .owner = "test",
                              .help = "help"};

static const int64_t lattice[] = {2, 4, 8};
static const int64_t descending[] = {4, 2};
static const int64_t outside[] = {4, 16};

static void expect_refused(tt_param param)
{
    tt_params *params = NULL;
    assert_ok(tt_params_create(&params));
    tt_error_clear();
    assert_int_equal(tt_params_register(params, &param, 1), TT_EINTERNAL);
    assert_string_not_equal(tt_error_message(), "");
    tt_params_destroy(params);
}

#define REFUSED(...)                                                                               \
    do {                                                                                           \
        tt_param changed = good;                                                                   \
        __VA_ARGS__;                                                                               \
        expect_refused(changed);                                                                   \
    } while (0)

static void test_wrong_entries(void **state)
{
    (void)state;
    REFUSED(changed.key = NULL);
    REFUSED(changed.key = "");
    REFUSED(changed.key = "a..b");
    REFUSED(changed.key = ".a");
    REFUSED(changed.key = "a.");
    REFUSED(changed.key = "a__b"); /* its environment variable would mean a.b */
    REFUSED(changed.key = "a_.b");
    REFUSED(changed.key = "a._b");
    REFUSED(changed.key = "A.b");
    REFUSED(changed.key = "a b");
    REFUSED(changed.key = "1a");
    REFUSED(changed.key = "preset"); /* there already */
    REFUSED(changed.default_text = "9");
    REFUSED(changed.default_text = "-1");
    REFUSED(changed.default_text = "4.5");
    REFUSED(changed.default_text = "auto");
    REFUSED(changed.default_text = "");
    REFUSED(changed.minimum = 9);
    REFUSED(changed.maximum = (double)NAN);
    REFUSED(changed.maximum = (double)INFINITY);
    REFUSED(changed.lattice = lattice);
    REFUSED(changed.lattice_count = 2);
    REFUSED(changed.lattice = descending; changed.lattice_count = 2);
    REFUSED(changed.lattice = outside; changed.lattice_count = 2);
    REFUSED(changed.lattice = lattice; changed.lattice_count = 3; changed.default_text = "5");
    REFUSED(changed.type = TT_TYPE_FLOAT; changed.lattice = lattice; changed.lattice_count = 3);
    REFUSED(changed.type = TT_TYPE_ENUM);
    REFUSED(changed.type = TT_TYPE_ENUM; changed.choices = "a|b");
    REFUSED(changed.type = TT_TYPE_ENUM; changed.choices = "4||b");
    REFUSED(changed.type = TT_TYPE_ENUM; changed.choices = "4|auto");
    REFUSED(changed.type = TT_TYPE_ENUM; changed.choices = "4|null");
    REFUSED(changed.type = TT_TYPE_ENUM; changed.choices = "4|a b");
    REFUSED(changed.type = (tt_type)0);
    REFUSED(changed.mutability = (tt_mutability)0);
    REFUSED(changed.tier = (tt_tier)9);
    REFUSED(changed.help = NULL);
    REFUSED(changed.owner = NULL);
}

static void test_entries_against_each_other(void **state)
{
    (void)state;
    tt_params *params = NULL;
    assert_ok(tt_params_create(&params));
    tt_param other = good;
    assert_ok(tt_params_register(params, &good, 1));
    assert_fails(tt_params_register(params, &other, 1), TT_EINTERNAL,
                 "parameter a.b is registered twice");
    other.key = "a";
    assert_fails(tt_params_register(params, &other, 1), TT_EINTERNAL,
                 "parameter a is also a section");
    other.key = "a.b.c";
    assert_fails(tt_params_register(params, &other, 1), TT_EINTERNAL,
                 "parameter a.b.c lies below another one");
    assert_int_equal(tt_params_count(params), 2);
    tt_params_destroy(params);
}

static void test_wrong_presets(void **state)
{
    (void)state;
    static const char *const unknown[][2] = {{"kernels.tile_q", "1"}};
    static const char *const wrong[][2] = {{"kernels.tile_m", "many"}};
    static const char *const twice[][2] = {{"seed", "1"}, {"seed", "2"}};
    static const char *const itself[][2] = {{"preset", "small"}};
    static const tt_preset bad[] = {
        {"p", "", unknown, 1}, {"p", "", wrong, 1}, {"p", "", twice, 2}, {"p", "", itself, 1}};
    static const tt_preset names[] = {{"small", "", wrong, 0}, {"none", "", wrong, 0},
                                      {"auto", "", wrong, 0},  {"a|b", "", wrong, 0},
                                      {"", "", wrong, 0},      {NULL, "", wrong, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tt_params *params = test_params();
        tt_config *config = NULL;
        assert_ok(tt_params_register_presets(params, &bad[i], 1));
        assert_int_equal(tt_config_create(params, &config), TT_EINTERNAL);
        assert_null(config);
        tt_params_destroy(params);
    }
    tt_params *params = test_params();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(tt_params_register_presets(params, &names[i], 1), TT_EINTERNAL);
    tt_params_destroy(params);
}

static void test_sorted_and_found(void **state)
{
    (void)state;
    tt_params *params = test_params();
    assert_int_equal(tt_params_count(params), 15);
    for (size_t i = 0; i < tt_params_count(params); i++) {
        const tt_param *param = tt_params_at(params, i);
        assert_ptr_equal(tt_params_find(params, param->key), param);
        if (i > 0)
            assert_true(strcmp(tt_params_at(params, i - 1)->key, param->key) < 0);
    }
    assert_null(tt_params_at(params, 15));
    assert_null(tt_params_find(params, "kernels"));
    assert_null(tt_params_find(params, "kernels.tile"));
    assert_null(tt_params_find(params, "kernels.tile_mm"));
    assert_null(tt_params_find(params, ""));
    tt_params_destroy(params);
}

static void test_markdown(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_text page;
    tt_text_init(&page);
    assert_ok(tt_params_write_markdown(params, &page));
    assert_non_null(strstr(page.data, "# Parameters\n"));
    assert_non_null(strstr(page.data, "\n## kernels\n"));
    assert_non_null(strstr(page.data, "\n## general\n"));
    assert_non_null(strstr(
        page.data, "| `kernels.tile_m` | int |  | `32` | one of 16, 32, 64, 128, 256, 512; or auto "
                   "| at a step | kernels | rows of an output tile |\n"));
    assert_non_null(
        strstr(page.data, "| `gates.loss.max` | float | nats | `10` | 0 to inf | on resume |"));
    assert_non_null(strstr(page.data, "is clipped to this \\| 0: off |"));
    assert_non_null(strstr(page.data, "| `data.path` | string |  | (empty) | text |"));
    assert_non_null(strstr(page.data, "### `small`\n\na laptop\n"));
    assert_non_null(strstr(page.data, "| `optim.clip` | `0` |"));
    for (size_t i = 0; i < tt_params_count(params); i++)
        if (strchr(tt_params_at(params, i)->help, '|') == NULL)
            assert_non_null(strstr(page.data, tt_params_at(params, i)->help));
    tt_text_clear(&page);
    tt_params_destroy(params);
}

static void test_list(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_text list;
    tt_text_init(&list);
    assert_ok(tt_params_write_list(params, "kernels.t", 60, &list));
    assert_string_equal(list.data, "kernels.threads  0     threads; 0: as many as there are\n"
                                   "                       processors\n"
                                   "kernels.tile_k   auto  depth of a tile\n"
                                   "kernels.tile_m   32    rows of an output tile\n");
    tt_text_clear(&list);
    assert_ok(tt_params_write_list(params, "kernels.t", 20, &list));
    assert_non_null(strstr(list.data, "kernels.tile_m   32\n    rows of an\n    output tile\n"));
    tt_text_clear(&list);
    assert_ok(tt_params_write_list(params, NULL, 0, &list));
    for (size_t i = 0; i < tt_params_count(params); i++)
        assert_non_null(strstr(list.data, tt_params_at(params, i)->key));
    assert_fails(tt_params_write_list(params, "x", 80, &list), TT_EUSAGE,
                 "no parameter begins with 'x'; leave it out to see all");
    tt_text_clear(&list);
    tt_params_destroy(params);
}

/* A wrong key or type is a programmer's mistake: an abort in a debug build, else a zero. */
static void read_wrongly(const tt_config *config, int how)
{
    if (how == 0)
        assert_int_equal(tt_config_int(config, "no.such"), 0);
    else if (how == 1)
        assert_int_equal(tt_config_int(config, "gates.loss.max"), 0);
    else if (how == 2)
        assert_true(tt_config_float(config, "seed") == 0);
    else if (how == 3)
        assert_string_equal(tt_config_string(config, "seed"), "");
    else
        assert_false(tt_config_bool(config, "seed"));
}

static void test_wrong_reads(void **state)
{
    (void)state;
    tt_params *params = test_params();
    tt_config *config = test_config(params);
    for (int how = 0; how < 5; how++) {
#ifdef NDEBUG
        read_wrongly(config, how);
#else
        int status = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL); /* not cmocka's handler */
            close(STDERR_FILENO);
            read_wrongly(config, how);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
#endif
    }
    assert_int_equal(tt_config_int(config, "kernels.tile_k"), 0); /* auto is no mistake */
    assert_string_equal(tt_config_string(config, "run.tag"), "");
    tt_config_destroy(config);
    tt_params_destroy(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_entries), cmocka_unit_test(test_entries_against_each_other),
        cmocka_unit_test(test_wrong_presets), cmocka_unit_test(test_sorted_and_found),
        cmocka_unit_test(test_markdown),      cmocka_unit_test(test_list),
        cmocka_unit_test(test_wrong_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
