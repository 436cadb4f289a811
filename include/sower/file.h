/* SPDX-License-Identifier: Apache-2.0 */
/* Files: read whole or mapped, written atomically, appended with fsync.
 *
 * Needs: error, alloc.  Threads: one object, one thread.  Ranks: knows none.  Errors name the path and the cause. */
#ifndef SOWER_FILE_H
#define SOWER_FILE_H

#include "sower/error.h"

#include <stdbool.h>

/* A file mapped read-only.  An empty file has data NULL. */
typedef struct sow_mapping {
    const unsigned char *data;
    size_t bytes;
} sow_mapping;

/* SOW_EIO naming the path for what is no regular file or cannot be read. */
SOW_NODISCARD sow_code sow_file_map(const char *path, sow_mapping *out);
void sow_file_unmap(sow_mapping *mapping);

/* The whole file with a NUL behind it (`bytes` does not count it); SOW_EIO above max_bytes.  Free with SOW_FREE. */
SOW_NODISCARD sow_code sow_file_read(const char *path, size_t max_bytes, char **out, size_t *bytes);

/* Whether something of that name is there; whether it is a folder; whether it is there and no empty folder, so that
 * nothing may be put in its place. */
bool sow_file_exists(const char *path);
bool sow_file_is_folder(const char *path);
bool sow_file_is_taken(const char *path);

/* Makes the folder and those above it; no error if it is there. */
SOW_NODISCARD sow_code sow_file_make_folder(const char *path);

/* "folder/name" into out (cap bytes); SOW_EARG if it does not fit. */
SOW_NODISCARD sow_code sow_file_join(const char *folder, const char *name, char *out, size_t cap);

/* An atomic file: written under "PATH.tmp", then fsync and rename; readers see the old one or the new one whole. */
typedef struct sow_writer sow_writer;
SOW_NODISCARD sow_code sow_writer_create(const char *path, sow_writer **out);
SOW_NODISCARD sow_code sow_writer_write(sow_writer *writer, const void *data, size_t bytes);
SOW_NODISCARD sow_code sow_writer_print(sow_writer *writer, const char *fmt, ...) SOW_PRINTF(2, 3);
/* Closes, renames and destroys.  On failure the temporary file is gone and the old file stands. */
SOW_NODISCARD sow_code sow_writer_commit(sow_writer **writer);
/* Gives up what was written.  NULL is fine. */
void sow_writer_destroy(sow_writer **writer);

/* One call for a small atomic file. */
SOW_NODISCARD sow_code sow_file_write(const char *path, const void *data, size_t bytes);

/* A file that only grows, a line at a time; `is_durable` syncs each line to disk before the call returns.  keep_bytes:
 * how much of an existing file to keep (the rest, a torn line, is cut); 0 for a new file. */
typedef struct sow_appender sow_appender;
SOW_NODISCARD sow_code sow_appender_open(const char *path, int64_t keep_bytes, bool is_durable, sow_appender **out);
SOW_NODISCARD sow_code sow_appender_line(sow_appender *appender, const char *text);
/* Bytes in the file by now. */
int64_t sow_appender_bytes(const sow_appender *appender);
void sow_appender_close(sow_appender **appender);

#endif
