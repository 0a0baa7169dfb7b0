/* An external job: reads a parameter through each installed library. */
#include <trimtab/orchestrator.h>
#ifdef WITH_TRAINER
#include <trimtab/training.h>
#endif

#include <stdio.h>

int main(void)
{
    tt_params *params = NULL;
    tt_config *config = NULL;
    tt_status status = tt_params_create(&params);
    if (!status) {
#ifdef WITH_TRAINER
        status = tt_training_register(params);
#else
        status = tt_orchestrator_register(params);
#endif
    }
    if (!status) {
        status = tt_config_create(params, &config);
    }
    if (status) {
        fprintf(stderr, "%s\n", tt_error_message());
    } else {
        printf("slots %lld\n", (long long)tt_config_int(config, "snapshot.slots"));
    }
    tt_config_destroy(config);
    tt_params_destroy(params);
    return tt_status_exit_code(status);
}
