/* What the folder of a run says of it. */
#include "drill.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "";
}

static int64_t whole_of(const json_t *record, const char *key)
{
    return json_integer_value(json_object_get(record, key));
}

/* NaN for what is not there. */
static double number_of(const json_t *record, const char *key)
{
    const json_t *value = json_object_get(record, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void copy(char *out, size_t room, const char *text)
{
    snprintf(out, room, "%s", text);
}

/* ---- the journal ---- */

static void take_trip(tt_drill_facts *facts, const json_t *record)
{
    if (facts->trips++ > 0) {
        return;
    }
    facts->trip_step = whole_of(record, "step");
    copy(facts->gate, sizeof facts->gate, text_of(record, "gate"));
    copy(facts->tensor, sizeof facts->tensor, text_of(record, "tensor"));
    copy(facts->action, sizeof facts->action, text_of(record, "action"));
}

static void take_search(tt_drill_facts *facts, const json_t *record)
{
    size_t i;
    const json_t *name;
    facts->searches++;
    facts->guilty[0] = '\0';
    copy(facts->verdict, sizeof facts->verdict, text_of(record, "verdict"));
    json_array_foreach(json_object_get(record, "guilty"), i, name)
    {
        size_t used = strlen(facts->guilty);
        snprintf(facts->guilty + used, sizeof facts->guilty - used, "%s%s", used ? "+" : "",
                 json_string_value(name));
    }
}

static void take_decision(tt_drill_facts *facts, const json_t *record)
{
    static const char *const times[] = {"gain_seconds", "step_seconds", "run_seconds"};
    const char *kind = text_of(record, "kind");
    if (strcmp(kind, "trip") == 0) {
        take_trip(facts, record);
    } else if (strcmp(kind, "search") == 0) {
        take_search(facts, record);
    } else if (strcmp(kind, "skip") == 0) {
        facts->skips++;
    } else if (strcmp(kind, "breaker") == 0) {
        facts->breakers += strcmp(text_of(record, "event"), "convict") == 0;
    } else if (strcmp(kind, "trial") == 0 || strcmp(kind, "commit") == 0) {
        facts->trials++;
    }
    if (strcmp(kind, "overhead") == 0) {
        facts->longest_decided = fmax(facts->longest_decided, number_of(record, "observed"));
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        facts->longest_decided = fmax(facts->longest_decided, fabs(number_of(record, times[i])));
    }
}

static tt_status read_journal(const char *path, tt_drill_facts *facts)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    if (!file) {
        return tt_fail(TT_ENOTFOUND, "%s is missing", path);
    }
    while (getline(&line, &room, file) > 0) {
        json_t *record = json_loads(line, 0, NULL); /* the last line may be cut */
        take_decision(facts, record);
        json_decref(record);
    }
    free(line);
    fclose(file);
    if (facts->trips == 1 && !facts->searches && strcmp(facts->action, "retry") == 0) {
        copy(facts->verdict, sizeof facts->verdict, "transient");
    }
    return TT_OK;
}

tt_status tt_drill_read(const tt_drill *drill, const char *folder, tt_drill_facts *out)
{
    char path[TT_DRILL_PATH];
    *out = (tt_drill_facts){.trip_step = -1};
    tt_drill_path(drill, folder, "decisions.jsonl", path);
    tt_status status = read_journal(path, out);
    if (status) {
        return status;
    }
    tt_drill_path(drill, folder, "receipt.json", path);
    json_t *receipt = json_load_file(path, 0, NULL);
    const json_t *totals = json_object_get(receipt, "this_attempt");
    out->steps = whole_of(receipt, "steps");
    out->held_out_loss = number_of(receipt, "held_out_loss");
    out->step_seconds = number_of(totals, "step_seconds");
    out->policy_seconds = number_of(totals, "policy_seconds");
    out->checkpoint_failures = whole_of(totals, "checkpoint_failures");
    json_decref(receipt);
    tt_drill_path(drill, folder, "drill.json", path);
    json_t *told = json_load_file(path, 0, NULL);
    out->harmed = whole_of(told, "harmed");
    out->harmed_published = whole_of(told, "harmed_published");
    out->longest_gap = number_of(told, "longest_gap");
    json_decref(told);
    return TT_OK;
}

/* ---- checkpoints ---- */

enum { COMPARE_BYTES = 1 << 20 };

static tt_status compare_entry(const tt_store *left, const tt_store *right,
                               const tt_store_entry *entry, char *one, char *two)
{
    const tt_store_entry *other = tt_store_find(right, entry->path);
    if (!other || other->bytes != entry->bytes || other->dtype != entry->dtype) {
        return tt_fail(TT_EGATE, "%s has another form", entry->path + strlen("/tensors/"));
    }
    for (int64_t at = 0; at < entry->bytes; at += COMPARE_BYTES) {
        size_t here =
            entry->bytes - at < COMPARE_BYTES ? (size_t)(entry->bytes - at) : (size_t)COMPARE_BYTES;
        tt_status status = tt_store_read(left, entry, at, one, here);
        status = status ? status : tt_store_read(right, other, at, two, here);
        if (status) {
            return status;
        }
        if (memcmp(one, two, here) != 0) {
            return tt_fail(TT_EGATE, "%s differs", entry->path + strlen("/tensors/"));
        }
    }
    return TT_OK;
}

static size_t count_tensors(const tt_store *store)
{
    size_t count = 0;
    for (size_t i = 0; i < tt_store_entry_count(store); i++) {
        count += strncmp(tt_store_entry_at(store, i)->path, "/tensors/", 9) == 0;
    }
    return count;
}

static tt_status compare_stores(const tt_store *left, const tt_store *right)
{
    char *one = malloc(2 * (size_t)COMPARE_BYTES);
    if (!one) {
        return tt_fail(TT_ENOMEM, "no memory to compare two checkpoints");
    }
    tt_status status = TT_OK;
    if (count_tensors(left) != count_tensors(right)) {
        status = tt_fail(TT_EGATE, "other tensors");
    }
    for (size_t i = 0; !status && i < tt_store_entry_count(left); i++) {
        const tt_store_entry *entry = tt_store_entry_at(left, i);
        if (strncmp(entry->path, "/tensors/", 9) == 0) {
            status = compare_entry(left, right, entry, one, one + COMPARE_BYTES);
        }
    }
    free(one);
    return status;
}

tt_status tt_drill_same_tensors(const char *left, const char *right)
{
    tt_store *one = NULL;
    tt_store *two = NULL;
    tt_status status = tt_store_open(left, &one);
    status = status ? status : tt_store_open(right, &two);
    status = status ? status : compare_stores(one, two);
    tt_store_close(one);
    tt_store_close(two);
    return status;
}

tt_status tt_drill_verify_all(const tt_drill *drill, const char *folder, int64_t *newest)
{
    char path[TT_DRILL_PATH];
    tt_status status = TT_OK;
    *newest = -1;
    tt_drill_path(drill, folder, "checkpoints", path);
    DIR *listing = opendir(path);
    const struct dirent *entry;
    while (listing && !status && (entry = readdir(listing)) != NULL) {
        long long step = -1;
        char ending[8] = "";
        tt_store_header header;
        /* (A name that begins with a dot is a temporary's.) */
        if (sscanf(entry->d_name, "step-%10lld.%2s", &step, ending) != 2 || // NOLINT(cert-err34-c)
            strcmp(ending, "h5") != 0 || strstr(entry->d_name, "aside")) {
            continue;
        }
        char name[300];
        snprintf(name, sizeof name, "checkpoints/%s", entry->d_name);
        tt_drill_path(drill, folder, name, path);
        status = tt_store_verify(path, &header);
        *newest = !status && step > *newest ? step : *newest;
    }
    if (listing) {
        closedir(listing);
    }
    return status;
}
