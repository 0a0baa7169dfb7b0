/* Checkpoints as the reading commands see them: a file, or the folder of a run. */
#ifndef TRIMTAB_CLI_CHECKPOINT_H
#define TRIMTAB_CLI_CHECKPOINT_H

#include "trimtab/store.h"

#define CLI_PATH_BYTES 4096

/* The file that `given` means: itself, or for a folder what its `latest` (or that of its
 * checkpoints/) points at. TT_ENOTFOUND says what is missing. */
tt_status cli_checkpoint_path(const char *given, char out[CLI_PATH_BYTES]);
/* Finds, verifies and opens it. */
tt_status cli_checkpoint_open(const char *given, char path[CLI_PATH_BYTES], tt_store **out);

/* Elements of `entry` from `first` on, as float64, `count` of them into `out`; `raw` has room for
 * their bytes. Integers beyond 2^53 are rounded. */
tt_status cli_read_elements(const tt_store *store, const tt_store_entry *entry, int64_t first,
                            size_t count, void *raw, double *out);
/* What its elements are: TT_BF16 for its bits, which files have as u16 in folders named so
 * ("params.bf16", "adam_v.sqrt_bf16"). */
tt_dtype cli_element_type(const tt_store_entry *entry);
int64_t cli_element_count(const tt_store_entry *entry);
/* True for tensors (and not for what describes them); *name is what to call it. */
bool cli_is_tensor(const tt_store_entry *entry, const char **name);
/* "256x128", "scalar" */
const char *cli_shape(const tt_store_entry *entry, char out[96]);

/* Elements that are looked at together, and room for their bytes. */
enum { CLI_BLOCK = 1 << 16, CLI_BLOCK_BYTES = 8 * CLI_BLOCK };

#endif
