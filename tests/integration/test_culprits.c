/* Whoever does harm is named, and nobody else: culprits planted at random into real runs.
 *
 *     test_culprits [first case] [number of cases] [anything: tell of every case]
 */
#include "campaign.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int first_case = 0, case_count = 60;
static bool verbose;

enum { KINDS = TT_FAULT_BIT_FLIP + 1 };

/* By what was planted (of two, the first), who is to blame, and what came of it. */
typedef struct table {
    int cells[KINDS][CAMPAIGN_TRUTHS][CAMPAIGN_CLASSES];
} table;

static void print_row(const char *left, const char *right, const int cells[CAMPAIGN_CLASSES])
{
    print_message("%-10s%-10s", left, right);
    for (int k = 0; k < CAMPAIGN_CLASSES; k++) {
        print_message("%11d", cells[k]);
    }
    print_message("\n");
}

static void print_table(const table *t)
{
    int all[CAMPAIGN_CLASSES] = {0};
    print_message("%-20s", "");
    for (int k = 0; k < CAMPAIGN_CLASSES; k++) {
        print_message("%11s", campaign_class_name((campaign_class)k));
    }
    print_message("\n");
    for (int kind = 0; kind < KINDS; kind++) {
        for (int truth = 0; truth < CAMPAIGN_TRUTHS; truth++) {
            print_row(campaign_kind_name((tt_fault_kind)kind),
                      campaign_truth_name((campaign_truth)truth), t->cells[kind][truth]);
            for (int k = 0; k < CAMPAIGN_CLASSES; k++) {
                all[k] += t->cells[kind][truth][k];
            }
        }
    }
    print_row("all", "", all);
}

static void tell(const campaign_case *planted, const campaign_result *result)
{
    char text[512];
    campaign_describe(planted, text);
    print_message("%s\n    %s: %s (tripped at %lld; %s; tail %+.4f, held out %+.4f)\n", text,
                  campaign_class_name(result->class), result->why, (long long)result->first_trip,
                  result->verdicts, result->tail, result->held_out);
}

/* A step that ends before its update is not refused for what only an update can show. */
static void the_gate_that_trips_is_named(void **state)
{
    campaign *c = *state;
    static const struct {
        const char *tensor, *gate;
        double magnitude;
    } rows[] = {{"act.logits", "spike_loss", 12},
                {"act.logits", "loss", 1e4},
                {"grad.*", "gradient_norm", 1e4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        campaign_case planted = {.number = -1 - (int)i,
                                 .truth = CAMPAIGN_TRANSIENT,
                                 .settled = true,
                                 .slots = 2,
                                 .every = 8,
                                 .plant_count = 1};
        campaign_result result;
        planted.plants[0] = (tt_plant){.site = TT_PLANT_PASS,
                                       .fault = {.kind = TT_FAULT_SCALE,
                                                 .tensor = rows[i].tensor,
                                                 .magnitude = rows[i].magnitude,
                                                 .step = 610,
                                                 .last = 610,
                                                 .position = -1,
                                                 .strikes = 2}};
        campaign_run(c, &planted, &result);
        if (result.class != CAMPAIGN_RIGHT || strcmp(result.gate, rows[i].gate) != 0) {
            tell(&planted, &result);
            fail_msg("%s tripped, not %s", result.gate, rows[i].gate);
        }
    }
}

static void planted_culprits_are_named(void **state)
{
    campaign *c = *state;
    table t = {0};
    int wrong = 0;
    int unnoticed = 0;
    for (int i = first_case; i < first_case + case_count; i++) {
        campaign_case planted;
        campaign_result result;
        campaign_draw(i, &planted);
        campaign_run(c, &planted, &result);
        t.cells[planted.plants[0].fault.kind][planted.truth][result.class]++;
        bool bad = result.class != CAMPAIGN_RIGHT && result.class != CAMPAIGN_UNNOTICED;
        wrong += bad;
        unnoticed += result.class == CAMPAIGN_UNNOTICED;
        if (bad || verbose) {
            tell(&planted, &result);
        }
    }
    print_table(&t);
    assert_int_equal(wrong, 0);
    assert_true(unnoticed * 20 <= case_count); /* else little was shown */
}

static int setup(void **state)
{
    *state = campaign_create();
    return 0;
}

static int teardown(void **state)
{
    campaign_destroy(*state);
    return 0;
}

int main(int argc, char **argv)
{
    first_case = argc > 1 ? atoi(argv[1]) : first_case;
    case_count = argc > 2 ? atoi(argv[2]) : case_count;
    verbose = argc > 3;
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_gate_that_trips_is_named),
                                       cmocka_unit_test(planted_culprits_are_named)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
