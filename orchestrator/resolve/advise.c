/* What is allowed but probably not wanted. */
#include "resolve/collect.h"

tt_status tt_config_advise(const tt_config *config, tt_text *out)
{
    for (size_t i = 0; i < config->params->advice_count; i++) {
        const tt_advice *advice = config->params->advice[i];
        tt_value values[TT_RULE_KEYS] = {0};
        if (!tt_collect_values(config, advice->keys, values) ||
            !advice->applies(advice->user, values))
            continue;
        tt_collect_describe(config, advice->keys, NULL, out);
        tt_text_addf(out, ": %s\n", advice->text);
    }
    return tt_text_check(out);
}
