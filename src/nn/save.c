/* SPDX-License-Identifier: Apache-2.0 */
/* Models written.  A folder is made under another name beside its place, each file in it is written and synced, and
 * the whole is renamed: who looks sees the complete folder or none. */
#include "files_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, MAX_TRIES = 1000 };

static const char *stored_name(sow_type type)
{
    static const char *const names[] = {[SOW_FP16] = "F16", [SOW_BF16] = "BF16", [SOW_F32] = "F32"};
    SOW_ASSERT(type < SOW_N_STORED);
    return names[type];
}

/* The JSON header, padded with blanks so that the data begins on a multiple of 64 bytes. */
static sow_code make_header(const sow_layout *layout, sow_type type, sow_words *out)
{
    int64_t at = 0, item = (int64_t)sow_type_bytes(type);
    SOW_TRY(sow_words_print(out, "{\"__metadata__\":{\"format\":\"pt\"}"));
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        int64_t end = at + tensor->rows * tensor->cols * item;
        SOW_TRY(sow_words_print(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", tensor->name, stored_name(type)));
        if (tensor->is_matrix)
            SOW_TRY(sow_words_print(out, "%lld,", (long long)tensor->rows));
        SOW_TRY(sow_words_print(out, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)tensor->cols, (long long)at,
                                (long long)end));
        at = end;
    }
    SOW_TRY(sow_words_print(out, "}"));
    return sow_words_print(out, "%*s", (int)(63 - (out->bytes + 7) % 64), "");
}

static bool is_finite(uint32_t bits, uint32_t exponent)
{
    return (bits & exponent) != exponent;
}

/* Index of the first value of a chunk that is not finite as stored, n if all are. */
static int64_t find_bad(sow_type type, int64_t n, const void *stored)
{
    const uint16_t *half = stored;
    const uint32_t *full = stored;
    uint32_t exponent = type == SOW_FP16 ? 0x7c00 : type == SOW_BF16 ? 0x7f80 : 0x7f800000;
    int64_t i = 0;
    while (i < n && is_finite(type == SOW_F32 ? full[i] : half[i], exponent))
        i++;
    return i;
}

static sow_code write_tensor(sow_writer *writer, const sow_tensor *tensor, const float *theta, sow_type type,
                             uint32_t *chunk, const char *path)
{
    const sow_kernels *kernels = sow_kernels_at(0);
    int64_t n = tensor->rows * tensor->cols;
    for (int64_t first = 0; first < n; first += CHUNK) {
        int64_t count = n - first < CHUNK ? n - first : CHUNK;
        const float *values = theta + tensor->offset + first;
        sow_phase_tick(); /* root answers while it writes a checkpoint */
        if (type == SOW_F32)
            memcpy(chunk, values, (size_t)count * sizeof *values);
        else
            kernels->narrow(type, count, values, chunk);
        int64_t bad = find_bad(type, count, chunk);
        if (bad < count)
            return SOW_FAIL(SOW_ENUM, "%s: %s: element %lld is %g, expected a value that is finite as %s", path,
                            tensor->name, (long long)(first + bad), (double)values[bad], sow_type_name(type));
        SOW_TRY(sow_writer_write(writer, chunk, (size_t)count * sow_type_bytes(type)));
    }
    return SOW_OK;
}

static sow_code write_all(sow_writer *writer, const char *path, const sow_layout *layout, const float *theta,
                          sow_type type, uint32_t *chunk)
{
    sow_code rc = SOW_OK;
    sow_words header = {0};
    unsigned char length[8];
    SOW_TRY_OR(rc, make_header(layout, type, &header));
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header.bytes >> 8 * i);
    SOW_TRY_OR(rc, sow_writer_write(writer, length, sizeof length));
    SOW_TRY_OR(rc, sow_writer_write(writer, header.text, header.bytes));
    for (int64_t i = 0; i < layout->n_tensors; i++)
        SOW_TRY_OR(rc, write_tensor(writer, &layout->tensors[i], theta, type, chunk, path));
done:
    sow_words_fini(&header);
    return rc;
}

sow_code sow_model_save_theta(const char *path, const sow_layout *layout, const float *theta, sow_type type)
{
    sow_code rc = SOW_OK;
    sow_writer *writer = NULL;
    uint32_t *chunk = NULL;
    SOW_TRY_OR(rc, SOW_ALLOC(&chunk, CHUNK));
    SOW_TRY_OR(rc, sow_writer_create(path, &writer));
    SOW_TRY_OR(rc, write_all(writer, path, layout, theta, type, chunk));
    SOW_TRY_OR(rc, sow_writer_commit(&writer));
done:
    sow_writer_destroy(&writer);
    SOW_FREE(&chunk);
    return rc;
}

/* A folder under construction. */
typedef struct new_folder {
    char target[PATH_MAX], path[PATH_MAX]; /* where it shall be, where it is; path "": not made */
} new_folder;

static const char *const file_names[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                         "tokenizer_config.json"};

static sow_code check_target(const char *path)
{
    if (!sow_file_is_taken(path))
        return SOW_OK;
    return SOW_FAIL(SOW_EIO, "%s: is %s, expected a new or empty folder", path,
                    sow_file_is_folder(path) ? "not empty" : "a file");
}

/* Makes "TARGET.new-PID" (or -PID-1, ...) and the folders above it.  Not mkdtemp: the folder shall have usual
 * permissions. */
static sow_code begin_folder(const char *name, new_folder *out)
{
    size_t bytes = strlen(name);
    while (bytes > 1 && name[bytes - 1] == '/')
        bytes--;
    if (bytes == 0 || bytes + 40 >= sizeof out->target)
        return SOW_FAIL(SOW_EARG, "a folder's name has %zu bytes, expected 1 to %zu", bytes, sizeof out->target - 41);
    memcpy(out->target, name, bytes);
    out->target[bytes] = '\0';
    SOW_TRY(check_target(out->target));
    char *slash = strrchr(out->target, '/');
    if (slash != NULL && slash != out->target) {
        *slash = '\0';
        sow_code rc = sow_file_make_folder(out->target);
        *slash = '/';
        SOW_TRY(rc);
    }
    char path[PATH_MAX + 64];
    for (int i = 0; i < MAX_TRIES; i++) {
        (void)snprintf(path, sizeof path, "%s.new-%ld-%d", out->target, (long)getpid(), i);
        if (mkdir(path, 0777) == 0) {
            memcpy(out->path, path, strlen(path) + 1);
            return SOW_OK;
        }
        if (errno != EEXIST)
            break;
    }
    return SOW_FAIL(SOW_EIO, "%s: cannot be made: %s", path, strerror(errno));
}

static sow_code sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_synced = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EROFS);
    int cause = errno;
    if (fd >= 0)
        (void)close(fd);
    return is_synced ? SOW_OK : SOW_FAIL(SOW_EIO, "%s: cannot be synced: %s", path, strerror(cause));
}

static sow_code finish_folder(new_folder *folder)
{
    SOW_TRY(sync_folder(folder->path));
    if (rename(folder->path, folder->target) != 0) /* an empty folder in its place is replaced, any other stays */
        return SOW_FAIL(SOW_EIO, "%s: cannot be renamed to %s: %s", folder->path, folder->target, strerror(errno));
    folder->path[0] = '\0';
    char *slash = strrchr(folder->target, '/');
    if (slash == NULL)
        return sync_folder(".");
    slash[slash == folder->target] = '\0';
    return sync_folder(folder->target);
}

/* Takes back what was made, after a failure. */
static void abandon_folder(new_folder *folder)
{
    char path[PATH_MAX + 32];
    if (folder->path[0] == '\0')
        return;
    for (size_t i = 0; i < sizeof file_names / sizeof file_names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder->path, file_names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder->path);
}

static sow_code write_text(const new_folder *folder, const char *name, const char *text, size_t bytes)
{
    char path[PATH_MAX];
    SOW_TRY(sow_file_join(folder->path, name, path, sizeof path));
    return sow_file_write(path, text, bytes);
}

/* What a save was asked for. */
typedef struct save_args {
    const sow_layout *layout;
    const float *theta;
    sow_type type;
    const char *tokenizer_json;
    size_t tokenizer_bytes;
    const char *chat_template;
} save_args;

static sow_code write_folder(const new_folder *folder, const save_args *args)
{
    const sow_shape *shape = &args->layout->shape;
    sow_code rc = SOW_OK;
    sow_words text = {0};
    char path[PATH_MAX];
    SOW_TRY_OR(rc, sow_hf_config(shape, args->type, &text));
    SOW_TRY_OR(rc, write_text(folder, "config.json", text.text, text.bytes));
    sow_words_clear(&text);
    SOW_TRY_OR(rc, sow_hf_generation(shape, &text));
    SOW_TRY_OR(rc, write_text(folder, "generation_config.json", text.text, text.bytes));
    if (args->tokenizer_json != NULL) {
        sow_words_clear(&text);
        SOW_TRY_OR(rc, sow_hf_tokenizer_config(shape, args->tokenizer_json, args->tokenizer_bytes, args->chat_template,
                                               &text));
        SOW_TRY_OR(rc, write_text(folder, "tokenizer_config.json", text.text, text.bytes));
        SOW_TRY_OR(rc, write_text(folder, "tokenizer.json", args->tokenizer_json, args->tokenizer_bytes));
    }
    SOW_TRY_OR(rc, sow_file_join(folder->path, "model.safetensors", path, sizeof path));
    SOW_TRY_OR(rc, sow_model_save_theta(path, args->layout, args->theta, args->type));
done:
    sow_words_fini(&text);
    return rc;
}

sow_code sow_model_save(const char *folder, const sow_layout *layout, const float *theta, sow_type type,
                        const char *tokenizer_json, size_t tokenizer_bytes, const char *chat_template)
{
    sow_code rc = SOW_OK;
    new_folder *made = NULL;
    save_args args = {layout, theta, type, tokenizer_json, tokenizer_bytes, chat_template};
    SOW_TRY(SOW_ALLOC(&made, 1));
    SOW_TRY_OR(rc, begin_folder(folder, made));
    SOW_TRY_OR(rc, write_folder(made, &args));
    SOW_TRY_OR(rc, finish_folder(made));
done:
    abandon_folder(made);
    SOW_FREE(&made);
    return rc;
}
