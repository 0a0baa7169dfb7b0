/* Whoever does harm is named, and nobody else: culprits planted at random into real runs. */
#include "campaign.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int first_case = 0, case_count = 60;
static bool verbose;

typedef struct table {
    int cells[CAMPAIGN_TRUTHS][CAMPAIGN_CLASSES];
} table;

static void print_table(const table *t)
{
    print_message("%-10s", "truth");
    for (int k = 0; k < CAMPAIGN_CLASSES; k++) {
        print_message("%11s", campaign_class_name((campaign_class)k));
    }
    print_message("\n");
    for (int i = 0; i < CAMPAIGN_TRUTHS; i++) {
        print_message("%-10s", campaign_truth_name((campaign_truth)i));
        for (int k = 0; k < CAMPAIGN_CLASSES; k++) {
            print_message("%11d", t->cells[i][k]);
        }
        print_message("\n");
    }
}

static void planted_culprits_are_named(void **state)
{
    (void)state;
    table t = {0};
    int wrong = 0;
    campaign *c = campaign_create();
    for (int i = first_case; i < first_case + case_count; i++) {
        campaign_case planted;
        campaign_result result;
        char text[512];
        campaign_draw(i, &planted);
        campaign_run(c, &planted, &result);
        t.cells[planted.truth][result.class]++;
        bool bad = result.class != CAMPAIGN_RIGHT && result.class != CAMPAIGN_UNNOTICED;
        wrong += bad;
        if (bad || verbose) {
            campaign_describe(&planted, text);
            print_message("%s\n    %s: %s (tripped at %lld; %s; tail %+.4f, held out %+.4f)\n",
                          text, campaign_class_name(result.class), result.why,
                          (long long)result.first_trip, result.verdicts, result.tail,
                          result.held_out);
        }
    }
    campaign_destroy(c);
    print_table(&t);
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    first_case = argc > 1 ? atoi(argv[1]) : first_case;
    case_count = argc > 2 ? atoi(argv[2]) : case_count;
    verbose = argc > 3;
    const struct CMUnitTest tests[] = {cmocka_unit_test(planted_culprits_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
