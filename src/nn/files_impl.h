/* SPDX-License-Identifier: Apache-2.0 */
/* What the file half of this layer shares: families, stored tensors, and the readers that fill a list of them.
 *
 *     model (open, load)  ->  hf (config.json)     ->  families, shape
 *                         ->  safetensors, gguf    ->  weights (tensors as stored)  ->  storage (how to widen a type)
 *     save                ->  hf (config.json)
 *
 * Readers take bytes in memory (a mapped file, or what a fuzzer made up); `what` names them in messages and outlives
 * the list. */
#ifndef SOWER_FILES_IMPL_H
#define SOWER_FILES_IMPL_H

#include "sower/file.h"
#include "sower/json.h"
#include "sower/model.h"
#include "sower/words.h"

#include <stdio.h>

/* A name from a file made fit for a message: cut, and without control characters. */
typedef struct sow_quoted {
    char text[80];
} sow_quoted;
const char *sow_quote(const char *text, size_t bytes, sow_quoted *out);

/* families.c: what tells one family from another; all else is the same forward pass. */
typedef enum sow_when { SOW_NEVER, SOW_ALWAYS, SOW_BY_CONFIG } sow_when;
typedef struct sow_family {
    const char *name;          /* model_type of config.json, general.architecture of a GGUF */
    const char *architecture;  /* class in transformers */
    int64_t default_head_dim;  /* 0: hidden_size / num_attention_heads */
    sow_when qkv_bias, o_bias; /* by config: attention_bias */
    sow_when mlp_bias;         /* by config: mlp_bias */
    sow_when qk_norm;
    bool is_gguf_permuted; /* rows of q and k in a GGUF: pairs of a head interleaved instead of halves */
} sow_family;
int64_t sow_family_count(void);
const sow_family *sow_family_at(int64_t index);
const sow_family *sow_family_find(const char *name); /* NULL if there is none */
const char *sow_family_names(sow_quoted *out);       /* "llama, qwen2, ..." */

/* shape.c: the counts of a shape, their names in config.json, and their limits.  The limits keep every product of them
 * far from overflow and every list short. */
typedef struct sow_shape_count {
    const char *key; /* config.json */
    size_t offset;   /* of the int64_t in sow_shape */
    int64_t min, max;
    bool is_required; /* else 0 until a default is put in */
} sow_shape_count;
int64_t sow_shape_counts(const sow_shape_count **out);
/* A tensor's name in a GGUF; layer -1: none.  False if it has none. */
bool sow_shape_gguf_name(sow_tensor_kind kind, int layer, char out[SOW_MAX_NAME]);
/* Adds an end token; SOW_EFORMAT if it is outside the vocabulary or one too many. */
SOW_NODISCARD sow_code sow_shape_add_eos(sow_shape *shape, int64_t id, const char *what, const char *key);

/* hf.c: adds the end tokens of a generation_config.json to the shape. */
SOW_NODISCARD sow_code sow_hf_add_generation(const char *json, size_t bytes, const char *what, sow_shape *shape);
/* chat_template of a tokenizer_config.json; NULL if there is none; else to be freed. */
SOW_NODISCARD sow_code sow_hf_chat_template(const char *json, size_t bytes, const char *what, char **out);

/* hf_write.c: the texts of a folder to be written, appended to `out`. */
SOW_NODISCARD sow_code sow_hf_config(const sow_shape *shape, sow_type type, sow_words *out);
SOW_NODISCARD sow_code sow_hf_generation(const sow_shape *shape, sow_words *out);
SOW_NODISCARD sow_code sow_hf_tokenizer_config(const sow_shape *shape, const char *tokenizer_json, size_t bytes,
                                               const char *chat_template, sow_words *out);

/* storage.c: how numbers lie in files (gguf_types.def).  widen makes n (a multiple of block) float32 values. */
typedef struct sow_storage {
    const char *name;
    uint32_t id; /* ggml's */
    int64_t block, block_bytes;
    void (*widen)(const unsigned char *in, int64_t n, float *out);
} sow_storage;
const sow_storage *sow_storage_find(const char *name); /* NULL if there is none */
const sow_storage *sow_storage_of_id(uint32_t id);
float sow_half_to_float(uint16_t half);
float sow_bfloat_to_float(uint16_t bfloat);

/* A tensor as a file stores it. */
typedef struct sow_stored {
    char name[SOW_MAX_NAME];
    const char *what;           /* borrowed: the file */
    const sow_storage *storage; /* NULL: a type this program does not read */
    char type[16];              /* its name in the file */
    int n_dims;
    int64_t rows, cols; /* of one or two dimensions (one: rows 1); else 0 */
    const unsigned char *data;
    int64_t offset, bytes; /* in the file's data part */
    bool is_used;
} sow_stored;

/* weights.c: all tensors of a model's files, sorted by name, and which of them each tensor of a layout is. */
typedef struct sow_weights {
    int64_t n, capacity;
    sow_stored *tensors; /* owned */
    int64_t *sources;    /* owned [layout->n_tensors]: which of tensors; NULL before the match */
    sow_stored *twin;    /* the other copy of a tied embedding, or NULL; must be equal */
    bool is_gguf, is_permuted;
} sow_weights;
void sow_weights_fini(sow_weights *weights);
/* The next free item. */
SOW_NODISCARD sow_code sow_weights_add(sow_weights *weights, sow_stored **out);
/* Sorts; two of one name are an error. */
SOW_NODISCARD sow_code sow_weights_sort(sow_weights *weights);
sow_stored *sow_weights_find(const sow_weights *weights, const char *name); /* NULL if there is none */
/* Finds the source of every tensor of the layout; missing, extra, wrong shape, unreadable type: SOW_EFORMAT naming the
 * tensor. */
SOW_NODISCARD sow_code sow_weights_match(sow_weights *weights, const sow_layout *layout, const char *what);
/* Fills theta; SOW_ENUM naming the tensor for a value that is not finite. */
SOW_NODISCARD sow_code sow_weights_load(const sow_weights *weights, const sow_layout *layout, float *theta);

/* safetensors.c */
SOW_NODISCARD sow_code sow_safetensors_read(const unsigned char *data, size_t bytes, const char *what,
                                            sow_weights *weights);

/* gguf.c: the container.  Metadata entries are sorted by key. */
typedef enum sow_gguf_kind {
    SOW_GGUF_U8,
    SOW_GGUF_I8,
    SOW_GGUF_U16,
    SOW_GGUF_I16,
    SOW_GGUF_U32,
    SOW_GGUF_I32,
    SOW_GGUF_F32,
    SOW_GGUF_BOOL,
    SOW_GGUF_STRING,
    SOW_GGUF_ARRAY,
    SOW_GGUF_U64,
    SOW_GGUF_I64,
    SOW_GGUF_F64,
    SOW_N_GGUF_KINDS
} sow_gguf_kind;

typedef struct sow_gguf_entry {
    const char *key; /* borrowed from the bytes, not terminated */
    size_t key_bytes;
    sow_gguf_kind kind, item_kind; /* item_kind: of an array */
    int64_t n;                     /* items of an array, bytes of a string */
    const unsigned char *value;    /* the number, the string's text, the array's first item */
} sow_gguf_entry;

typedef struct sow_gguf {
    const char *what;
    int64_t n, capacity;
    sow_gguf_entry *entries; /* owned */
} sow_gguf;
void sow_gguf_fini(sow_gguf *gguf);
SOW_NODISCARD sow_code sow_gguf_read(const unsigned char *data, size_t bytes, const char *what, sow_gguf *gguf,
                                     sow_weights *weights);
const sow_gguf_entry *sow_gguf_find(const sow_gguf *gguf, const char *key); /* NULL if there is none */
/* SOW_EFORMAT: the entry is missing (NULL) or of a wrong kind. */
sow_code sow_gguf_fail_kind(const sow_gguf *gguf, const char *key, const sow_gguf_entry *entry, const char *expected);
/* The id of a token; -1 if it is not there or says none (-1, also as an unsigned number). */
SOW_NODISCARD sow_code sow_gguf_get_token(const sow_gguf *gguf, const char *key, int64_t *out);
/* A number at `value`; integers of any kind, reals of both.  False if the kind is another or it does not fit. */
bool sow_gguf_to_int(sow_gguf_kind kind, const unsigned char *value, int64_t *out);
bool sow_gguf_to_real(sow_gguf_kind kind, const unsigned char *value, double *out);
/* Walks the items of an array of strings: *at starts as entry->value. */
const char *sow_gguf_next_string(const unsigned char **at, size_t *bytes);

/* gguf_model.c: what a GGUF says about a model. */
SOW_NODISCARD sow_code sow_gguf_shape(const sow_gguf *gguf, sow_weights *weights, sow_shape *out);
/* gguf_text.c: tokenizer.json (NULL if the file holds no tokenizer) and chat template (or NULL), to be freed. */
SOW_NODISCARD sow_code sow_gguf_tokenizer(const sow_gguf *gguf, char **out, size_t *bytes);
SOW_NODISCARD sow_code sow_gguf_chat_template(const sow_gguf *gguf, char **out);

/* model.c: a model from bytes in memory, for tests and fuzzing; they outlive it. */
SOW_NODISCARD sow_code sow_model_from_gguf(const unsigned char *data, size_t bytes, const char *what, sow_model **out);

#endif
