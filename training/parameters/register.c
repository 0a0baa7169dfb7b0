/* All that a training run's configuration is made of. */
#include "tables.h"

tt_status tt_training_register(tt_params *params)
{
    static const tt_param_table *const tables[] = {
        &tt_model_parameters,       &tt_learning_parameters, &tt_kernels_parameters,
        &tt_compression_parameters, &tt_run_parameters,      NULL,
    };
    tt_status status = tt_orchestrator_register(params);
    for (size_t i = 0; !status && tables[i]; i++) {
        status = tt_params_register(params, tables[i]->params, tables[i]->count);
    }
    if (!status) {
        status = tt_presets_register(params);
    }
    return status ? status : tt_rules_register(params);
}
