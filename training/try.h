/* Returns from the caller with the first failure; for functions that own nothing. */
#ifndef TRIMTAB_TRAINING_TRY_H
#define TRIMTAB_TRAINING_TRY_H

#define TRY(call)                                                                                  \
    do {                                                                                           \
        tt_status try_status = (call);                                                             \
        if (try_status) {                                                                          \
            return try_status;                                                                     \
        }                                                                                          \
    } while (0)

#endif
