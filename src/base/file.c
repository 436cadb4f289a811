/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/file.h"

#include "base_impl.h"

#include "sower/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

sow_code sow_file_map(const char *path, sow_mapping *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SOW_FAIL_ERRNO(path, "open");
    sow_code rc = SOW_OK;
    struct stat info;
    void *data = NULL;
    if (fstat(fd, &info) != 0)
        rc = SOW_FAIL_ERRNO(path, "read");
    else if (!S_ISREG(info.st_mode))
        rc = SOW_FAIL(SOW_EIO, "%s: is not a regular file", path);
    else if (info.st_size > 0 && (data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        rc = SOW_FAIL_ERRNO(path, "map");
    (void)close(fd);
    SOW_TRY(rc);
    *out = (sow_mapping){.data = data, .bytes = (size_t)info.st_size};
    return SOW_OK;
}

void sow_file_unmap(sow_mapping *mapping)
{
    if (mapping->data != NULL)
        (void)munmap((void *)(uintptr_t)mapping->data, mapping->bytes);
    *mapping = (sow_mapping){0};
}

sow_code sow_file_read(const char *path, size_t max_bytes, char **out, size_t *bytes)
{
    sow_mapping map = {0};
    char *text = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_file_map(path, &map));
    if (map.bytes > max_bytes) {
        rc = SOW_FAIL(SOW_EIO, "%s: has %zu bytes, expected at most %zu", path, map.bytes, max_bytes);
        goto done;
    }
    SOW_TRY_OR(rc, SOW_ALLOC(&text, map.bytes + 1));
    if (map.bytes > 0)
        memcpy(text, map.data, map.bytes);
    *bytes = map.bytes;
    *out = text;
done:
    sow_file_unmap(&map);
    return rc;
}

bool sow_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool sow_file_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool sow_file_is_taken(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL)
        return errno != ENOENT;
    bool is_empty = true;
    for (const struct dirent *entry = readdir(folder); is_empty && entry != NULL; entry = readdir(folder))
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    (void)closedir(folder);
    return !is_empty;
}

sow_code sow_file_make_folder(const char *path)
{
    char part[PATH_MAX];
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= sizeof part)
        return SOW_FAIL(SOW_EARG, "a folder's name has %zu bytes, expected 1 to %zu", bytes, sizeof part - 1);
    for (size_t i = 1; i <= bytes; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) == 0)
            continue;
        const int why = errno;
        if (!sow_file_is_folder(part))
            return SOW_FAIL(SOW_EIO, "%s: cannot make the folder: %s", part, strerror(why));
    }
    return SOW_OK;
}

sow_code sow_file_join(const char *folder, const char *name, char *out, size_t cap)
{
    int n = snprintf(out, cap, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= cap)
        return SOW_FAIL(SOW_EARG, "%s/%s: the path is longer than %zu bytes", folder, name, cap - 1);
    return SOW_OK;
}

static sow_code write_all(int fd, const char *path, const void *data, size_t bytes)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SOW_FAIL_ERRNO(path, "write");
        p += n;
        bytes -= (size_t)n;
    }
    return SOW_OK;
}

/* A rename is durable once the folder is synced. */
static sow_code sync_folder_of(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(folder, sizeof folder, ".")
                          : snprintf(folder, sizeof folder, "%.*s", (int)(slash == path ? 1 : slash - path), path);
    if (n < 0 || (size_t)n >= sizeof folder)
        return SOW_FAIL(SOW_EARG, "%s: the path is too long", path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return SOW_FAIL_ERRNO(folder, "open");
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS;
    (void)close(fd);
    return failed ? SOW_FAIL_ERRNO(folder, "sync") : SOW_OK;
}

struct sow_writer {
    int fd;                 /* -1: closed */
    char *path, *temporary; /* owned */
};

sow_code sow_writer_create(const char *path, sow_writer **out)
{
    sow_code rc = SOW_OK;
    sow_writer *writer = NULL;
    size_t bytes = strlen(path) + sizeof ".tmp";
    SOW_TRY(SOW_ALLOC(&writer, 1));
    writer->fd = -1;
    SOW_TRY_OR(rc, sow_alloc_string(&writer->path, path));
    SOW_TRY_OR(rc, SOW_ALLOC(&writer->temporary, bytes));
    (void)snprintf(writer->temporary, bytes, "%s.tmp", path);
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0)
        rc = SOW_FAIL_ERRNO(writer->temporary, "create");
done:
    if (rc != SOW_OK)
        sow_writer_destroy(&writer);
    else
        *out = writer;
    return rc;
}

sow_code sow_writer_write(sow_writer *writer, const void *data, size_t bytes)
{
    return write_all(writer->fd, writer->temporary, data, bytes);
}

sow_code sow_writer_print(sow_writer *writer, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text)
        return SOW_FAIL(SOW_EARG, "%s: a line is longer than %zu bytes", writer->path, sizeof text - 1);
    return sow_writer_write(writer, text, (size_t)n);
}

sow_code sow_writer_commit(sow_writer **writer)
{
    sow_writer *w = *writer;
    sow_code rc = SOW_OK;
    if (fsync(w->fd) != 0)
        rc = SOW_FAIL_ERRNO(w->temporary, "sync");
    if (close(w->fd) != 0 && rc == SOW_OK)
        rc = SOW_FAIL_ERRNO(w->temporary, "write");
    w->fd = -1;
    if (rc == SOW_OK && rename(w->temporary, w->path) != 0)
        rc = SOW_FAIL_ERRNO(w->path, "replace");
    if (rc == SOW_OK)
        rc = sync_folder_of(w->path);
    sow_writer_destroy(writer);
    return rc;
}

void sow_writer_destroy(sow_writer **writer)
{
    sow_writer *w = *writer;
    if (w == NULL)
        return;
    if (w->fd >= 0)
        (void)close(w->fd);
    if (w->temporary != NULL)
        (void)unlink(w->temporary); /* gone already after a rename */
    SOW_FREE(&w->temporary);
    SOW_FREE(&w->path);
    SOW_FREE(writer);
}

sow_code sow_file_write(const char *path, const void *data, size_t bytes)
{
    sow_writer *writer = NULL;
    SOW_TRY(sow_writer_create(path, &writer));
    sow_code rc = sow_writer_write(writer, data, bytes);
    if (rc != SOW_OK) {
        sow_writer_destroy(&writer);
        return rc;
    }
    return sow_writer_commit(&writer);
}

struct sow_appender {
    int fd;
    bool is_durable;
    int64_t bytes;
    char *path; /* owned */
};

sow_code sow_appender_open(const char *path, int64_t keep_bytes, bool is_durable, sow_appender **out)
{
    sow_code rc = SOW_OK;
    sow_appender *a = NULL;
    SOW_TRY(SOW_ALLOC(&a, 1));
    a->fd = -1;
    SOW_TRY_OR(rc, sow_alloc_string(&a->path, path));
    a->is_durable = is_durable;
    a->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (a->fd < 0 || ftruncate(a->fd, (off_t)keep_bytes) != 0 || lseek(a->fd, 0, SEEK_END) != (off_t)keep_bytes) {
        rc = SOW_FAIL_ERRNO(path, "open for appending");
        goto done;
    }
    a->bytes = keep_bytes;
    if (is_durable)
        SOW_TRY_OR(rc, sync_folder_of(path));
done:
    if (rc != SOW_OK)
        sow_appender_close(&a);
    else
        *out = a;
    return rc;
}

sow_code sow_appender_line(sow_appender *a, const char *text)
{
    size_t bytes = strlen(text);
    char *line = NULL;
    SOW_TRY(SOW_ALLOC(&line, bytes + 2));
    memcpy(line, text, bytes);
    line[bytes] = '\n';
    sow_code rc = write_all(a->fd, a->path, line, bytes + 1);
    SOW_FREE(&line);
    SOW_TRY(rc);
    if (a->is_durable && fdatasync(a->fd) != 0 && errno != EINVAL)
        return SOW_FAIL_ERRNO(a->path, "sync");
    a->bytes += (int64_t)bytes + 1;
    return SOW_OK;
}

int64_t sow_appender_bytes(const sow_appender *a)
{
    return a->bytes;
}

void sow_appender_close(sow_appender **appender)
{
    sow_appender *a = *appender;
    if (a == NULL)
        return;
    if (a->fd >= 0)
        (void)close(a->fd);
    SOW_FREE(&a->path);
    SOW_FREE(appender);
}
