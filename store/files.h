/* store/files.h: names and temporaries.
 *
 * A temporary stands in the directory of what it will become, as ".<name>.tmp.<pid>". Its writer
 * holds an flock() on it, so that cleaning up can tell a dead writer's leftover from a live one's
 * file even where process numbers repeat (every container's trainer may be number 1).
 */
#ifndef TT_STORE_FILES_H
#define TT_STORE_FILES_H

#include "trimtab/store.h"

#define TT_STORE_SUFFIX        ".h5"
#define TT_STORE_LATEST        "latest"
#define TT_STORE_TEMP_MARK     ".tmp."
#define TT_STORE_MAX_FILE_NAME 200 /* leaves room in NAME_MAX for what a temporary adds */

/* "<directory>/<name>", to be freed; NULL without memory. */
char *tt_store_join(const char *directory, const char *name);
/* The temporary's path for `name` in this process; NULL without memory. */
char *tt_store_temp_path(const char *directory, const char *name);
/* The process that a temporary's name speaks of; 0 for any other name. */
int64_t tt_store_temp_owner(const char *name);

tt_status tt_store_sync_directory(const tt_file_ops *ops, const char *directory);

/* Makes and locks the temporary. One that a dead process left is replaced; a live writer's one is
 * TT_EBUSY. */
tt_status tt_store_temp_create(const tt_file_ops *ops, const char *path, int *fd);
/* Closes the temporary and gives it its final name. `*fd` is -1 afterwards, whatever happened. */
tt_status tt_store_temp_publish(const tt_file_ops *ops, int *fd, const char *temporary,
                                const char *path);
/* Closes (if `*fd` is not -1) and removes; keeps the error message that is there. */
void tt_store_temp_discard(const tt_file_ops *ops, int *fd, const char *temporary);
/* Removes a temporary if its writer is dead. */
tt_status tt_store_temp_remove_stale(const tt_file_ops *ops, const char *directory,
                                     const char *name);
/* Makes `<directory>/latest` a symbolic link to `name`, at once. */
tt_status tt_store_move_latest(const tt_file_ops *ops, const char *directory, const char *name);

#endif
