#include "campaign.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A run of the first regime is EARLY_STEPS long. Those of the other begin at SETTLED_FROM, when
 * every gate has been armed for a while. */
enum { EARLY_STEPS = 60, SETTLED_FROM = 600, SETTLED_STEPS = 640, BATCH = 4, TAIL = 10 };

struct campaign {
    fixture files;
    double tail[2], held_out[2]; /* of the clean runs, by regime */
    const char *const *base;
};

static const char *const base_settings[] = {
    "model.channels=64",
    "model.layers=2",
    "train.batch=4",
    "optim.warmup_steps=20",
    "optim.learning_rate=0.001",
    "train.validate_sequences=64",
    "kernels.tile_m=64",
    "kernels.tile_n=64",
    "kernels.tile_k=64",
    "compression.moments=int8",
    "compression.activations=int8",
    "checkpoint.keep=4",
    "run.threads=1",
    NULL,
};

/* ---- cases ---- */

/* Where an optimization, a batch or a cosmic ray does harm that gates can see: in the first steps
 * they let a loss of anything up to 10 pass, later they know what is usual. (What they cannot see:
 * second moments that vanish or grow, and with them updates that are many times too large or small;
 * see docs/gates.md.) */
typedef struct place {
    tt_plant_site site;
    const char *tensor;
    uint32_t kinds;   /* a bit each */
    uint32_t settled; /* the same, only where all gates are armed */
    bool small;       /* it is small values that do harm */
} place;

#define KIND(name) (UINT32_C(1) << TT_FAULT_##name)
#define BROKEN     (KIND(NAN) | KIND(INFINITY))
#define LARGE      (KIND(SCALE) | KIND(NOISE))
#define FLIP       KIND(BIT_FLIP)

/* Products, what follows from them, and gradients. (The product that makes fc makes the GELU, too:
 * of an infinity put there later only backward hears, and to a GELU's slope it is 0 or 1.) */
static const place passes[] = {
    {TT_PLANT_PASS, "act.embed", BROKEN, 0, false},
    {TT_PLANT_PASS, "act.h.0.qkv", BROKEN, LARGE, false},
    {TT_PLANT_PASS, "act.h.1.qkv", BROKEN, 0, false},
    {TT_PLANT_PASS, "act.h.0.fc", KIND(NAN), 0, false},
    {TT_PLANT_PASS, "act.h.1.fc", KIND(NAN), 0, false},
    {TT_PLANT_PASS, "act.h.1.attn", BROKEN, 0, false},
    {TT_PLANT_PASS, "act.h.0.gelu", BROKEN, 0, false},
    {TT_PLANT_PASS, "act.h.0.resid_mid", BROKEN, 0, false},
    {TT_PLANT_PASS, "act.logits", BROKEN | LARGE, 0, false},
    {TT_PLANT_PASS, "grad.*", BROKEN | LARGE | FLIP, 0, false},
    {TT_PLANT_PASS, "grad.*", KIND(SCALE), 0, true},
    {TT_PLANT_PASS, "grad.h.0.attn.c_attn.weight", BROKEN | LARGE, 0, false},
    {TT_PLANT_PASS, "grad.h.1.mlp.c_fc.weight", BROKEN | LARGE, 0, false},
    {TT_PLANT_PASS, "grad.wte.weight", BROKEN | LARGE, 0, false},
};
static const place decodings[] = {
    {TT_PLANT_DECODED, "act.h.*", BROKEN | LARGE | FLIP, 0, false},
    {TT_PLANT_DECODED, "act.h.0.ln_1", BROKEN | LARGE, 0, false},
    {TT_PLANT_DECODED, "act.h.1.ln_2", BROKEN | LARGE, 0, false},
    {TT_PLANT_DECODED, "act.h.0.qkv", BROKEN, 0, false},
    {TT_PLANT_DECODED, "act.h.1.fc", KIND(NAN), 0, false},
    {TT_PLANT_DECODED, "act.h.1.gelu", BROKEN | LARGE, 0, false},
};
static const place writings[] = {
    {TT_PLANT_WRITTEN, "adam_m.int8.scale/wte.weight", BROKEN | LARGE, 0, false},
    {TT_PLANT_WRITTEN, "adam_m.int8.scale/*", BROKEN | LARGE | FLIP, 0, false},
    {TT_PLANT_WRITTEN, "adam_v.sqrt_uint8.scale/wte.weight", BROKEN, 0, false},
    {TT_PLANT_WRITTEN, "adam_v.sqrt_uint8.scale/*", BROKEN, 0, false},
};
static const place states[] = {
    {TT_PLANT_READ, "params/wte.weight", BROKEN | LARGE, 0, false},
    {TT_PLANT_READ, "params/*", BROKEN | LARGE | FLIP, 0, false},
    {TT_PLANT_READ, "params/ln_f.weight", BROKEN | LARGE, 0, false},
    {TT_PLANT_READ, "adam_m/*", BROKEN | LARGE, 0, false},
    {TT_PLANT_READ, "adam_m.int8.scale/*", BROKEN | LARGE | FLIP, 0, false},
    {TT_PLANT_READ, "adam_v.sqrt_uint8.scale/*", BROKEN, 0, false},
};
static const char *const names[] = {"variant", "tile", "moments", "activations"};
enum { VARIANT, TILE, MOMENTS, ACTIVATIONS, OPTIMIZATIONS };

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct dice {
    uint64_t stream, at;
} dice;

static uint32_t roll(dice *d, uint32_t sides)
{
    uint32_t block[4];
    tt_philox(20260, d->stream, d->at++, block);
    return block[0] % sides;
}

static void draw_place(dice *d, const place *places, size_t count, bool settled, tt_plant *plant)
{
    static const double large[] = {1e4, 1e12, 1e30};
    const place *at = &places[roll(d, (uint32_t)count)];
    uint32_t kinds = at->kinds | (settled ? at->settled : 0);
    tt_tensor_fault *fault = &plant->fault;
    do {
        fault->kind = (tt_fault_kind)roll(d, TT_FAULT_BIT_FLIP + 1);
    } while (!(kinds >> fault->kind & 1));
    fault->magnitude = at->small ? 1e-12 : large[roll(d, COUNT(large))];
    fault->tensor = at->tensor;
    plant->site = at->site;
}

/* Where an optimization does its harm. */
static void draw_site(dice *d, int optimization, bool settled, tt_plant *plant)
{
    switch (optimization) {
    case MOMENTS:
        draw_place(d, writings, COUNT(writings), settled, plant);
        return;
    case ACTIVATIONS:
        draw_place(d, decodings, COUNT(decodings), settled, plant);
        return;
    default:
        draw_place(d, passes, COUNT(passes), settled, plant);
    }
}

static void tie(tt_plant *plant, int first, int second)
{
    plant->with[0] = first < 0 ? NULL : names[first];
    plant->with[1] = second < 0 ? NULL : names[second];
}

static tt_plant blank(int64_t step)
{
    return (tt_plant){.fault = {.step = step, .last = INT64_MAX, .position = -1, .strikes = -1}};
}

static void draw_pair(dice *d, int *first, int *second)
{
    *first = (int)roll(d, OPTIMIZATIONS);
    *second = ((int)roll(d, OPTIMIZATIONS - 1) + 1 + *first) % OPTIMIZATIONS;
}

static void draw_plants(dice *d, int64_t step, campaign_case *out)
{
    tt_plant *plant = &out->plants[0];
    int first;
    int second;
    out->plant_count = 1;
    out->plants[0] = blank(step);
    out->plants[1] = blank(step);
    draw_pair(d, &first, &second);
    switch (out->truth) {
    case CAMPAIGN_SINGLE:
        draw_site(d, first, out->settled, plant);
        tie(plant, first, -1);
        return;
    case CAMPAIGN_EITHER: {
        /* At the place of the one that leaves traces where others do not look. */
        bool moments = first == MOMENTS || second == MOMENTS;
        bool activations = first == ACTIVATIONS || second == ACTIVATIONS;
        draw_site(d, moments ? MOMENTS : activations ? ACTIVATIONS : first, out->settled, plant);
        tie(plant, first, second);
        return;
    }
    case CAMPAIGN_JOINT:
        draw_site(d, first, out->settled, plant);
        tie(plant, first, -1);
        draw_site(d, second, out->settled, &out->plants[1]);
        tie(&out->plants[1], second, -1);
        out->plants[1].fault.step += roll(d, 2) ? 0 : roll(d, 6);
        out->plant_count = 2;
        return;
    case CAMPAIGN_BATCH:
        draw_site(d, TILE, out->settled, plant);
        plant->fault.position = step * BATCH;
        return;
    case CAMPAIGN_TRANSIENT:
        draw_site(d, first, out->settled, plant);
        /* Gone by the retry or the first replay; what any step can show may also go in the middle
         * of a search. */
        plant->fault.strikes = 1 + (int)roll(d, plant->site == TT_PLANT_PASS && roll(d, 2) ? 8 : 2);
        plant->fault.last = step;
        return;
    default: /* CAMPAIGN_MEMORY */
        draw_place(d, states, COUNT(states), out->settled, plant);
        plant->fault.strikes = 1;
    }
}

void campaign_draw(int number, campaign_case *out)
{
    static const int slots[] = {2, 3, 2, 3, 1};
    static const int every[] = {4, 8, 16};
    dice d = {.stream = (uint64_t)number};
    memset(out, 0, sizeof *out);
    out->number = number;
    /* Half of them are one culprit. */
    uint32_t truth = roll(&d, 10);
    out->truth =
        truth < 4 ? CAMPAIGN_SINGLE : (campaign_truth)(truth < 9 ? truth - 3 : CAMPAIGN_EITHER);
    out->settled = roll(&d, 2) == 0;
    out->slots = slots[roll(&d, COUNT(slots))];
    out->every = every[roll(&d, COUNT(every))];
    int64_t step = out->settled ? SETTLED_FROM + 1 + (int64_t)roll(&d, 24) : (int64_t)roll(&d, 24);
    draw_plants(&d, step, out);
}

const char *campaign_truth_name(campaign_truth truth)
{
    static const char *const list[] = {"single", "either", "joint", "batch", "transient", "memory"};
    return list[truth];
}

const char *campaign_class_name(campaign_class class)
{
    static const char *const list[] = {"right",    "unnoticed", "missed", "unresolved",
                                       "misnamed", "harmed",    "stopped"};
    return list[class];
}

const char *campaign_kind_name(tt_fault_kind kind)
{
    static const char *const list[] = {"nan", "infinity", "scale", "noise", "bit flip"};
    return list[kind];
}

static void describe_plant(const tt_plant *plant, char *out, size_t bytes)
{
    static const char *const sites[] = {"passed", "decoded", "read", "written"};
    const tt_tensor_fault *fault = &plant->fault;
    snprintf(out, bytes, "%s%s%s: %s %g in %s, %s, from step %lld, strikes %d",
             plant->with[0] ? plant->with[0] : "anyone", plant->with[1] ? "+" : "",
             plant->with[1] ? plant->with[1] : "", campaign_kind_name(fault->kind),
             fault->magnitude, fault->tensor, sites[plant->site], (long long)fault->step,
             fault->strikes);
}

void campaign_describe(const campaign_case *planted, char out[512])
{
    char plants[2][200] = {"", ""};
    for (int i = 0; i < planted->plant_count; i++) {
        describe_plant(&planted->plants[i], plants[i], sizeof plants[i]);
    }
    snprintf(out, 512, "case %d, %s, slots %d, checkpoints every %d: %s%s%s", planted->number,
             campaign_truth_name(planted->truth), planted->slots, planted->every, plants[0],
             plants[1][0] ? "; " : "", plants[1]);
}

/* ---- several plants in one run ---- */

typedef struct garden {
    campaign_case *planted;
    tt_probe_fn pass;
    void (*state)(void *user, tt_training *training, const tt_step_plan *plan);
    void (*update)(void *user, tt_training *training, const tt_step_plan *plan);
} garden;

static tt_status all_in_pass(void *user, const char *name, void *data, int64_t count)
{
    const garden *g = user;
    tt_status status = TT_OK;
    for (int i = 0; !status && i < g->planted->plant_count; i++) {
        status = g->pass(&g->planted->plants[i], name, data, count);
    }
    return status;
}

static void all_in_state(void *user, tt_training *training, const tt_step_plan *plan)
{
    const garden *g = user;
    for (int i = 0; i < g->planted->plant_count; i++) {
        g->state(&g->planted->plants[i], training, plan);
    }
}

static void all_in_update(void *user, tt_training *training, const tt_step_plan *plan)
{
    const garden *g = user;
    for (int i = 0; i < g->planted->plant_count; i++) {
        g->update(&g->planted->plants[i], training, plan);
    }
}

static void plant_all(garden *g, campaign_case *planted, tt_training *training)
{
    for (int i = 0; i < planted->plant_count; i++) {
        if (tt_plant_attach(&planted->plants[i], training)) {
            fail_msg("%s", tt_error_message());
        }
    }
    *g = (garden){planted, training->plant, training->plant_state, training->plant_update};
    training->plant = all_in_pass;
    training->plant_state = all_in_state;
    training->plant_update = all_in_update;
    training->plant_user = g;
}

/* ---- runs ---- */

static void start(const campaign *c, const char *folder, const char *resume,
                  const char *const *more, fixture_run *run)
{
    const char *settings[40];
    size_t count = 0;
    for (size_t i = 0; base_settings[i]; i++) {
        settings[count++] = base_settings[i];
    }
    for (; *more; more++) {
        settings[count++] = *more;
    }
    settings[count] = NULL;
    if (fixture_create(&c->files, folder, resume, settings, NULL, run) ||
        tt_orchestrator_start(run->training->orchestrator)) {
        fail_msg("%s", tt_error_message());
    }
}

static int64_t steps_of(bool settled)
{
    return settled ? SETTLED_STEPS : EARLY_STEPS;
}

/* Steps up to `until`; what was published last of each step is what counts. */
static tt_status go_on(tt_training *training, int64_t until, double *losses, campaign_result *out)
{
    tt_status status = TT_OK;
    int64_t attempts = 0;
    while (!status && tt_orchestrator_step(training->orchestrator) < until && attempts++ < 1000) {
        tt_step_record record;
        status = tt_training_step(training, &record);
        if (!status && record.published) {
            losses[record.step] = record.loss;
        } else if (!status && out->first_trip < 0) {
            out->first_trip = record.step;
            snprintf(out->gate, sizeof out->gate, "%s", record.decision.gate);
        }
    }
    return status;
}

static double tail_of(const double *losses, int64_t steps)
{
    double sum = 0;
    for (int64_t i = steps - TAIL; i < steps; i++) {
        sum += losses[i];
    }
    return sum / TAIL;
}

static double held_out_of(tt_training *training)
{
    double loss = NAN;
    assert_int_equal(tt_training_validate(training, &loss), TT_OK);
    return loss;
}

/* ---- clean runs ---- */

static void run_clean(campaign *c, bool settled)
{
    char steps[64];
    snprintf(steps, sizeof steps, "train.steps=%d", (int)steps_of(settled));
    const char *const more[] = {steps, NULL};
    const char *folder = settled ? "settled" : "early";
    double losses[SETTLED_STEPS] = {0};
    campaign_result unused = {.first_trip = -1};
    fixture_run run;
    if (settled) {
        start(c, "begun", NULL, more, &run);
        assert_int_equal(go_on(run.training, SETTLED_FROM, losses, &unused), TT_OK);
        assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
        fixture_destroy(&run);
        char command[1100];
        snprintf(command, sizeof command, "cp -r '%s' '%s'", fixture_path(&c->files, "begun"),
                 fixture_path(&c->files, folder));
        assert_int_equal(system(command), 0);
    }
    start(c, folder, settled ? "auto" : NULL, more, &run);
    assert_int_equal(go_on(run.training, steps_of(settled), losses, &unused), TT_OK);
    c->tail[settled] = tail_of(losses, steps_of(settled));
    c->held_out[settled] = held_out_of(run.training);
    assert_int_equal(unused.first_trip, -1);
    assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
    fixture_destroy(&run);
}

campaign *campaign_create(void)
{
    campaign *c = calloc(1, sizeof *c);
    assert_non_null(c);
    fixture_init(&c->files, 20000);
    run_clean(c, false);
    run_clean(c, true);
    return c;
}

void campaign_destroy(campaign *c)
{
    fixture_clear(&c->files);
    free(c);
}

/* ---- judging ---- */

typedef struct findings {
    bool guilty[OPTIMIZATIONS], opened[OPTIMIZATIONS];
    bool batch, named, either;
    int searches, unresolved, odd; /* odd: a verdict that no fault here deserves */
    bool equal;                    /* the end is that of the clean run, bit for bit */
} findings;

static int number_of(const char *name)
{
    for (int i = 0; i < OPTIMIZATIONS; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    fail_msg("'%s' is no optimization", name);
    return -1;
}

static void take_search(const json_t *line, findings *found, campaign_result *out)
{
    const char *verdict = json_string_value(json_object_get(line, "verdict"));
    const json_t *guilty = json_object_get(line, "guilty");
    size_t used = strlen(out->verdicts);
    snprintf(out->verdicts + used, sizeof out->verdicts - used, "%s%s@%d", used ? ", " : "",
             verdict, (int)json_integer_value(json_object_get(line, "step")));
    for (size_t i = 0; i < json_array_size(guilty); i++) {
        const char *name = json_string_value(json_array_get(guilty, i));
        found->guilty[number_of(name)] = true;
        found->named = true;
        used = strlen(out->verdicts);
        snprintf(out->verdicts + used, sizeof out->verdicts - used, "%c%s", i ? '+' : ' ', name);
    }
    found->searches++;
    found->batch = found->batch || strcmp(verdict, "batch") == 0;
    found->either = found->either || strcmp(verdict, "interaction (either)") == 0;
    found->unresolved += strcmp(verdict, "unresolved") == 0;
    found->odd += strcmp(verdict, "nondeterminism") == 0 || strcmp(verdict, "learning rate") == 0;
}

static void read_journal(const char *path, findings *found, campaign_result *out)
{
    char *text = fixture_read(path);
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_error_t error;
        json_t *record = json_loads(line, 0, &error);
        assert_non_null(record);
        const char *kind = json_string_value(json_object_get(record, "kind"));
        if (kind && strcmp(kind, "search") == 0) {
            take_search(record, found, out);
        }
        json_decref(record);
    }
    free(text);
}

static void note_breakers(const tt_training *training, findings *found)
{
    for (size_t i = 0; i < tt_orchestrator_optimization_count(training->orchestrator); i++) {
        tt_optimization_info info = tt_orchestrator_optimization(training->orchestrator, i);
        assert_true(info.on || info.breaker != TT_BREAKER_CLOSED);
        found->opened[number_of(info.name)] = info.breaker != TT_BREAKER_CLOSED;
    }
}

static void expect(const campaign_case *planted, bool guilty[OPTIMIZATIONS],
                   bool opened[OPTIMIZATIONS])
{
    static const int yields_first[] = {MOMENTS, ACTIVATIONS, VARIANT, TILE};
    memset(guilty, 0, OPTIMIZATIONS * sizeof *guilty);
    for (int i = 0; i < planted->plant_count; i++) {
        for (int k = 0; k < 2; k++) {
            if (planted->plants[i].with[k]) {
                guilty[number_of(planted->plants[i].with[k])] = true;
            }
        }
    }
    memcpy(opened, guilty, OPTIMIZATIONS * sizeof *guilty);
    for (int i = 0, taken = 0; planted->truth == CAMPAIGN_EITHER && i < OPTIMIZATIONS; i++) {
        /* One of them is enough: who yields first. */
        opened[yields_first[i]] = guilty[yields_first[i]] && taken++ == 0;
    }
}

static bool is_lasting(const campaign_case *planted)
{
    return planted->truth == CAMPAIGN_SINGLE || planted->truth == CAMPAIGN_EITHER ||
           planted->truth == CAMPAIGN_JOINT;
}

static campaign_class say(campaign_result *out, campaign_class class, const char *why)
{
    snprintf(out->why, sizeof out->why, "%s", why);
    return class;
}

static campaign_class judge(const campaign_case *planted, const findings *found,
                            campaign_result *out)
{
    bool guilty[OPTIMIZATIONS];
    bool opened[OPTIMIZATIONS];
    bool opened_any = false;
    bool opened_innocent = false;
    bool named_innocent = false;
    expect(planted, guilty, opened);
    for (int i = 0; i < OPTIMIZATIONS; i++) {
        opened_any = opened_any || found->opened[i];
        opened_innocent = opened_innocent || (found->opened[i] && !opened[i]);
        named_innocent = named_innocent || (found->guilty[i] && !guilty[i]);
    }
    bool close = fabs(out->tail) <= 0.01 && fabs(out->held_out) <= 0.01;
    if (named_innocent || opened_innocent) {
        return say(out, CAMPAIGN_MISNAMED, "an innocent was named or turned off");
    }
    if (found->odd) {
        return say(out, CAMPAIGN_MISNAMED, "what is no cause was named");
    }
    if (out->first_trip < 0) {
        return close ? say(out, CAMPAIGN_UNNOTICED, "too small")
                     : say(out, CAMPAIGN_MISSED, "loss");
    }
    if (is_lasting(planted)) {
        if (!found->named) {
            return say(out, CAMPAIGN_UNRESOLVED, "nobody was named");
        }
        if (memcmp(guilty, found->guilty, sizeof guilty) != 0 ||
            memcmp(opened, found->opened, sizeof opened) != 0 ||
            (planted->truth == CAMPAIGN_EITHER && !found->either)) {
            return say(out, CAMPAIGN_MISNAMED, "not all were named and turned off");
        }
        return close ? say(out, CAMPAIGN_RIGHT, "") : say(out, CAMPAIGN_HARMED, "loss");
    }
    if (planted->truth == CAMPAIGN_BATCH) {
        if (!found->batch || out->totals.skips != 1) {
            return say(out, CAMPAIGN_UNRESOLVED, "the batch was not named and left out");
        }
        /* (Early, other data make more of a difference.) */
        return fabs(out->held_out) <= (planted->settled ? 0.01 : 0.05)
                   ? say(out, CAMPAIGN_RIGHT, "")
                   : say(out, CAMPAIGN_HARMED, "loss");
    }
    if (found->batch || out->totals.skips) {
        return say(out, CAMPAIGN_MISNAMED, "a batch was blamed");
    }
    return found->equal ? say(out, CAMPAIGN_RIGHT, "") : say(out, CAMPAIGN_HARMED, "other bits");
}

static bool same_files(const char *a, const char *b)
{
    tt_store *left = NULL;
    tt_store *right = NULL;
    bool same = !tt_store_open(a, &left) && !tt_store_open(b, &right);
    for (size_t i = 0; same && i < tt_store_entry_count(left); i++) {
        const tt_store_entry *entry = tt_store_entry_at(left, i);
        if (strncmp(entry->path, "/tensors/", 9) != 0) {
            continue;
        }
        const tt_store_entry *other = tt_store_find(right, entry->path);
        char *one = malloc((size_t)entry->bytes + 1);
        char *two = malloc((size_t)entry->bytes + 1);
        same = other && other->bytes == entry->bytes &&
               !tt_store_read(left, entry, 0, one, (size_t)entry->bytes) &&
               !tt_store_read(right, other, 0, two, (size_t)entry->bytes) &&
               memcmp(one, two, (size_t)entry->bytes) == 0;
        free(one);
        free(two);
    }
    tt_store_close(left);
    tt_store_close(right);
    return same;
}

static void begin_case(const campaign *c, const campaign_case *planted, const char *folder,
                       fixture_run *run)
{
    char settings[3][64];
    snprintf(settings[0], sizeof settings[0], "train.steps=%d", (int)steps_of(planted->settled));
    snprintf(settings[1], sizeof settings[1], "snapshot.slots=%d", planted->slots);
    snprintf(settings[2], sizeof settings[2], "checkpoint.every_steps=%d", planted->every);
    const char *const more[] = {settings[0], settings[1], settings[2], NULL};
    if (planted->settled) {
        char command[1100];
        snprintf(command, sizeof command, "cp -r '%s' '%s'", fixture_path(&c->files, "begun"),
                 fixture_path(&c->files, folder));
        assert_int_equal(system(command), 0);
    }
    start(c, folder, planted->settled ? "auto" : NULL, more, run);
}

void campaign_run(campaign *c, campaign_case *planted, campaign_result *out)
{
    char folder[64];
    char journal[96];
    char command[1100];
    double losses[SETTLED_STEPS] = {0};
    int64_t steps = steps_of(planted->settled);
    findings found = {0};
    garden g;
    fixture_run run;
    *out = (campaign_result){.first_trip = -1};
    snprintf(folder, sizeof folder, "case-%d", planted->number);
    snprintf(journal, sizeof journal, "%s/decisions.jsonl", folder);
    begin_case(c, planted, folder, &run);
    plant_all(&g, planted, run.training);
    tt_status status = go_on(run.training, steps, losses, out);
    if (status) {
        snprintf(out->why, sizeof out->why, "%s", tt_error_message());
    } else if (tt_orchestrator_step(run.training->orchestrator) < steps) {
        snprintf(out->why, sizeof out->why, "no end in 1,000 attempts");
        status = TT_EGATE;
    }
    note_breakers(run.training, &found);
    out->totals = tt_orchestrator_totals(run.training->orchestrator);
    read_journal(fixture_path(&c->files, journal), &found, out);
    out->class = CAMPAIGN_STOPPED;
    if (!status) {
        out->tail = tail_of(losses, steps) / c->tail[planted->settled] - 1;
        out->held_out = held_out_of(run.training) / c->held_out[planted->settled] - 1;
        assert_int_equal(tt_orchestrator_finish(run.training->orchestrator, TT_OK), TT_OK);
        found.equal =
            same_files(fixture_checkpoint(&c->files, planted->settled ? "settled" : "early", steps),
                       fixture_checkpoint(&c->files, folder, steps));
        out->class = judge(planted, &found, out);
    }
    fixture_destroy(&run);
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(&c->files, folder));
    assert_int_equal(system(command), 0);
}
