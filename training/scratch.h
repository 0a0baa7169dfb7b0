/* A folder for runs that nobody is to see afterwards. */
#ifndef TRIMTAB_TRAINING_SCRATCH_H
#define TRIMTAB_TRAINING_SCRATCH_H

#include "trimtab/base.h"

enum { TT_SCRATCH_PATH = 4096 };

/* Makes TMPDIR/trimtab-<what>-XXXXXX (/tmp without TMPDIR). */
tt_status tt_scratch_make(const char *what, char out[TT_SCRATCH_PATH]);
/* Removes it with all that is in it; "" is fine. */
void tt_scratch_remove(const char *path);

#endif
