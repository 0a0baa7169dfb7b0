/* Rules and advice as the modules register them. */
#include "config/config_internal.h"

#include <stdio.h>

/* Every key is there, and of a type that a function can judge. */
static tt_status check_keys(const tt_params *params, const char *what,
                            const char *const keys[TT_RULE_KEYS])
{
    if (keys[0] == NULL)
        return tt_fail(TT_EINTERNAL, "%s names no key", what);
    for (size_t i = 0; i < TT_RULE_KEYS && keys[i] != NULL; i++) {
        const tt_param *param = tt_params_find(params, keys[i]);
        if (param == NULL)
            return tt_fail(TT_EINTERNAL, "%s names '%s', which is not registered", what, keys[i]);
        if (param->type == TT_TYPE_STRING)
            return tt_fail(TT_EINTERNAL, "%s names %s, which is text", what, keys[i]);
    }
    return TT_OK;
}

static tt_status no_memory(void)
{
    return tt_fail(TT_ENOMEM, "no memory for the parameter table");
}

tt_status tt_params_register_rules(tt_params *params, const tt_rule *table, size_t count)
{
    /* One place is the memory estimate's. */
    if (count > TT_RESOLVE_MAX_RULES - 1 - params->rule_count)
        return tt_fail(TT_EINTERNAL, "%zu rules are more than the %d that the resolver takes",
                       params->rule_count + count, TT_RESOLVE_MAX_RULES - 1);
    for (size_t i = 0; i < count; i++) {
        char what[128];
        if (table[i].name == NULL || table[i].holds == NULL)
            return tt_fail(TT_EINTERNAL, "rule %zu of a table lacks a name or a function", i);
        snprintf(what, sizeof(what), "rule '%s'", table[i].name);
        tt_status status = check_keys(params, what, table[i].keys);
        if (status != TT_OK)
            return status;
        const tt_rule **rules = tt_grow_pointers(params->rules, params->rule_count + 1);
        if (rules == NULL)
            return no_memory();
        rules[params->rule_count++] = &table[i];
        params->rules = rules;
    }
    return TT_OK;
}

tt_status tt_params_register_advice(tt_params *params, const tt_advice *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].text == NULL || table[i].applies == NULL)
            return tt_fail(TT_EINTERNAL, "advice %zu of a table lacks a text or a function", i);
        tt_status status = check_keys(params, "an advice", table[i].keys);
        if (status != TT_OK)
            return status;
        const tt_advice **advice = tt_grow_pointers(params->advice, params->advice_count + 1);
        if (advice == NULL)
            return no_memory();
        advice[params->advice_count++] = &table[i];
        params->advice = advice;
    }
    return TT_OK;
}
