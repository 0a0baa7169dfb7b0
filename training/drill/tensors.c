/* Scenarios in which tensors are harmed. */
#include "drill.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LASTING   INT64_MAX
#define TOLERANCE 0.01 /* of the final loss, where the run goes on without something */

/* What a harm is expected to lead to. */
typedef struct expected {
    const char *gates;   /* one of these, separated by blanks */
    const char *tensor;  /* that is named; NULL: none needs to be */
    const char *verdict; /* "transient", "batch", "culprit" */
    const char *guilty;  /* the culprit; NULL: none */
} expected;

static bool in_list(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; length && (at = strstr(at, word)) != NULL; at++) {
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length])) {
            return true;
        }
    }
    return false;
}

/* ---- judging ---- */

static void judge_detection(const char *folder, const tt_drill_facts *facts, const expected *want,
                            int64_t step, tt_drill_verdict *verdict)
{
    if (facts->harmed == 0) {
        tt_drill_lose(verdict, "%s: the fault could not be planted", folder);
    } else if (facts->trips == 0) {
        tt_drill_lose(verdict, "%s: no gate noticed it", folder);
    } else if (facts->trip_step != step) {
        tt_drill_lose(verdict, "%s: noticed at step %lld, not at step %lld where it happened",
                      folder, (long long)facts->trip_step, (long long)step);
    } else if (!in_list(want->gates, facts->gate)) {
        tt_drill_lose(verdict, "%s: noticed by %s only; %s should have been first", folder,
                      facts->gate, want->gates);
    } else if (want->tensor && strcmp(facts->tensor, want->tensor) != 0) {
        tt_drill_lose(verdict, "%s: the first bad tensor is %s, and '%s' was named", folder,
                      want->tensor, facts->tensor);
    } else if (facts->harmed_published > 0) {
        tt_drill_lose(verdict, "%s: %lld harmed steps were published", folder,
                      (long long)facts->harmed_published);
    }
    tt_drill_note(verdict->detected, sizeof verdict->detected, facts->gate);
}

static void judge_culprit(const char *folder, const tt_drill_facts *facts, const expected *want,
                          tt_drill_verdict *verdict)
{
    bool named = !want->guilty || strcmp(facts->guilty, want->guilty) == 0;
    const char *found = facts->guilty[0] ? facts->guilty : facts->verdict;
    if (strcmp(facts->verdict, want->verdict) != 0 || !named) {
        tt_drill_lose(verdict, "%s: the culprit is %s, and %s was blamed", folder,
                      want->guilty ? want->guilty : want->verdict, *found ? found : "nothing");
    } else if (want->guilty && facts->breakers == 0) {
        tt_drill_lose(verdict, "%s: the breaker of %s is not open", folder, want->guilty);
    } else if (strcmp(want->verdict, "batch") == 0 && facts->skips != 1) {
        tt_drill_lose(verdict, "%s: %d batches were left out instead of one", folder, facts->skips);
    }
    tt_drill_note(verdict->culprit, sizeof verdict->culprit, found);
}

static void judge_loss(const tt_drill_yardstick *clean, const char *folder,
                       const tt_drill_facts *facts, const tt_drill_end *end,
                       tt_drill_verdict *verdict)
{
    double change = facts->held_out_loss / clean->facts.held_out_loss - 1;
    char word[48];
    if (end->hung || end->code != 0) {
        tt_drill_lose(verdict, "%s: the run %s%s%s", folder,
                      end->hung ? "hangs" : "does not go on to its end",
                      end->message[0] ? ": " : "", end->message);
        return;
    }
    if (!(change <= TOLERANCE)) {
        tt_drill_lose(verdict, "%s: the final loss is %.4f instead of %.4f", folder,
                      facts->held_out_loss, clean->facts.held_out_loss);
    }
    snprintf(word, sizeof word, "loss %+.2f %%", 100 * change);
    tt_drill_note(verdict->recovered, sizeof verdict->recovered, word);
}

/* ---- harming ---- */

static int64_t batch_at(const tt_drill *drill, int64_t step)
{
    return step * tt_config_int(drill->config, "train.batch") *
           tt_config_int(drill->config, "train.accumulate");
}

static tt_status harm(tt_drill *drill, tt_drill_job *job, const expected *want,
                      tt_drill_verdict *verdict)
{
    const tt_drill_yardstick *clean;
    tt_drill_end end;
    tt_drill_facts facts;
    tt_status status = tt_drill_clean(drill, job->steps, job->settings, &clean);
    if (!status) {
        status = tt_drill_go(drill, job, &end);
    }
    if (status) {
        return status;
    }
    if (tt_drill_read(drill, job->folder, &facts)) {
        tt_drill_lose(verdict, "%s: %s", job->folder, tt_error_message());
        return TT_OK;
    }
    judge_detection(job->folder, &facts, want, job->plant.fault.step, verdict);
    judge_culprit(job->folder, &facts, want, verdict);
    if (strcmp(want->verdict, "transient") == 0) {
        tt_drill_expect_equal(drill, clean, job->folder, &end, verdict);
    } else {
        judge_loss(clean, job->folder, &facts, &end, verdict);
    }
    return TT_OK;
}

/* Late enough for every gate to be armed; early enough for what follows to show. */
static int64_t late(const tt_drill *drill)
{
    return tt_drill_long(drill) * 7 / 8;
}

static tt_drill_job job_of(const tt_drill *drill, const char *folder, tt_fault_kind kind,
                           const char *tensor)
{
    tt_drill_job job = {.folder = folder, .steps = tt_drill_long(drill)};
    job.plant.fault = (tt_tensor_fault){.kind = kind,
                                        .tensor = tensor,
                                        .step = late(drill),
                                        .last = late(drill),
                                        .position = -1,
                                        .strikes = 1};
    return job;
}

/* ---- the scenarios ---- */

tt_status tt_drill_nan_tensor(tt_drill *drill, tt_drill_verdict *verdict)
{
    static const char *const tensors[] = {"act.h.0.fc", "grad.h.0.attn.c_attn.weight"};
    static const char *const folders[] = {"nan-activation", "nan-gradient"};
    tt_status status = TT_OK;
    for (size_t i = 0; !status && i < sizeof tensors / sizeof *tensors; i++) {
        tt_drill_job job = job_of(drill, folders[i], TT_FAULT_NAN, tensors[i]);
        const expected want = {.gates = "loss gradient_finite gradient_norm",
                               .tensor = tensors[i],
                               .verdict = "transient"};
        status = harm(drill, &job, &want, verdict);
    }
    return status;
}

tt_status tt_drill_loss_spike(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_job job = job_of(drill, "spike", TT_FAULT_SCALE, "act.logits");
    const expected want = {.gates = "loss spike_loss", .verdict = "batch"};
    job.plant.fault.magnitude = 40;
    job.plant.fault.position = batch_at(drill, job.plant.fault.step);
    job.plant.fault.strikes = -1;
    job.plant.fault.last = LASTING;
    return harm(drill, &job, &want, verdict);
}

tt_status tt_drill_exploding(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_job job = job_of(drill, "exploding", TT_FAULT_SCALE, "grad.*");
    const expected want = {.gates = "gradient_norm", .verdict = "transient"};
    job.plant.fault.magnitude = 1e4;
    job.plant.fault.strikes = 2; /* a retry does not cure it: the search finds it gone */
    return harm(drill, &job, &want, verdict);
}

tt_status tt_drill_vanished(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_job job = job_of(drill, "vanished", TT_FAULT_SCALE, "grad.*");
    const expected want = {.gates = "gradient_norm", .verdict = "transient"};
    job.plant.fault.magnitude = 1e-12;
    return harm(drill, &job, &want, verdict);
}

enum { EARLY = 64 };

static const char with_codec[] = "compression.activations=int8";
static const char in_f32[] = "kernels.compute=f32"; /* in bf16 none runs */

/* From that step on, at every attempt. */
static tt_status lasting(tt_drill *drill, tt_drill_job *job, int64_t from, const expected *want,
                         tt_drill_verdict *verdict)
{
    job->plant.fault.step = from;
    job->plant.fault.last = LASTING;
    job->plant.fault.strikes = -1;
    return harm(drill, job, want, verdict);
}

/* What comes back from the codec is wrong. */
static tt_status wrong_codec(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_job job = job_of(drill, "codec-wrong", TT_FAULT_SCALE, "act.h.0.ln_2");
    const expected want = {.gates = "gradient_norm spike_norm gradient_finite",
                           .verdict = "culprit",
                           .guilty = "activations"};
    job.plant.site = TT_PLANT_DECODED;
    job.plant.fault.magnitude = 1e5;
    job.plant.with[0] = "activations";
    job.settings[0] = with_codec;
    job.settings[1] = in_f32;
    return lasting(drill, &job, tt_drill_long(drill) * 5 / 8, &want, verdict);
}

/* What goes in has outliers that blocks so large cannot keep: without the codec nothing is wrong.
 */
static tt_status outliers(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_drill_job job = job_of(drill, "codec-outliers", TT_FAULT_OUTLIERS, "act.h.0.ln_1");
    const expected want = {
        .gates = "reconstruction", .verdict = "culprit", .guilty = "activations"};
    job.plant.fault.magnitude = 40;
    job.plant.with[0] = "activations";
    job.settings[0] = with_codec;
    job.settings[1] = in_f32;
    job.settings[2] = "compression.block=4096";
    /* Early: gradients, which grow somewhat, still have a wide limit. */
    int64_t half = tt_drill_long(drill) / 2;
    return lasting(drill, &job, half < EARLY ? half : EARLY, &want, verdict);
}

tt_status tt_drill_corrupt_codec(tt_drill *drill, tt_drill_verdict *verdict)
{
    tt_status status = wrong_codec(drill, verdict);
    return status ? status : outliers(drill, verdict);
}

/* An overflow, late: the reference, with which the run goes on, may be slow. While the loss falls
 * fast, as in the first hundreds of steps, a finite error can hide in the noise of the last 128. */
tt_status tt_drill_wrong_kernel(tt_drill *drill, tt_drill_verdict *verdict)
{
    /* (Of fc nothing comes after: its product makes the GELU as well.) */
    tt_drill_job job = job_of(drill, "kernel", TT_FAULT_INFINITY, "act.h.0.qkv");
    const expected want = {.gates = "loss gradient_norm gradient_finite",
                           .tensor = "act.h.0.qkv",
                           .verdict = "culprit",
                           .guilty = "variant"};
    job.plant.with[0] = "variant";
    job.settings[0] = "kernels.variant=auto";
    return lasting(drill, &job, late(drill), &want, verdict);
}
