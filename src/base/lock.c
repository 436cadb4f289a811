/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* F_OFD_SETLK, POSIX since 2024: closing the path's other files does not end the lock */
#include "sower/lock.h"

#include "sower/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct sow_lock {
    int fd; /* owned */
};

static int set_lock(int fd, int command, struct flock *lock)
{
    *lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, command, lock);
}

static void name_machine(char out[256])
{
    if (gethostname(out, 255) != 0)
        out[0] = '\0';
    out[255] = '\0';
}

/* "HOST PID" as the holder wrote it, "" if it has not. */
static void read_holder(int fd, char out[320])
{
    ssize_t n = pread(fd, out, 319, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

static void write_holder(int fd)
{
    char host[256], text[320];
    name_machine(host);
    int n = snprintf(text, sizeof text, "%s %ld\n", host, (long)getpid());
    if (n > 0 && ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, (size_t)n, 0); /* no more than a hint for people and for sow_lock_look */
}

sow_code sow_lock_take(const char *path, sow_lock **out)
{
    struct flock found;
    char holder[320];
    *out = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return SOW_OK;
    if (set_lock(fd, F_OFD_SETLK, &found) != 0) {
        bool is_held = errno == EACCES || errno == EAGAIN;
        read_holder(fd, holder);
        (void)close(fd);
        return is_held ? SOW_FAIL(SOW_ECONF, "%s: is held by a run at work (%s), expected one that has ended", path,
                                  holder[0] != '\0' ? holder : "its machine and process are not known")
                       : SOW_OK;
    }
    sow_code rc = SOW_ALLOC(out, 1);
    if (rc != SOW_OK) {
        (void)close(fd);
        return rc;
    }
    (*out)->fd = fd;
    write_holder(fd);
    return SOW_OK;
}

void sow_lock_release(sow_lock **lock)
{
    if (*lock == NULL)
        return;
    (void)close((*lock)->fd);
    SOW_FREE(lock);
}

sow_lock_state sow_lock_look(const char *path)
{
    struct flock found;
    char host[256], holder[320];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SOW_LOCK_UNKNOWN;
    int rc = set_lock(fd, F_OFD_GETLK, &found);
    read_holder(fd, holder);
    (void)close(fd);
    if (rc != 0)
        return SOW_LOCK_UNKNOWN;
    if (found.l_type != F_UNLCK)
        return SOW_LOCK_HELD;
    name_machine(host);
    size_t n = strlen(host);
    return n > 0 && strncmp(holder, host, n) == 0 && holder[n] == ' ' ? SOW_LOCK_FREE : SOW_LOCK_UNKNOWN;
}
