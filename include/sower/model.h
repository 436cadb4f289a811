/* SPDX-License-Identifier: Apache-2.0 */
/* Models on disk: a Hugging Face folder or a GGUF file is read, a Hugging Face folder is written.
 *
 * Needs: shape, tokenizer, file, json.  Threads: one model, one thread.  Ranks: knows none; one rank reads and sends.
 * Bad input: every bound is checked; a wrong file is SOW_EFORMAT with path, tensor or key, value, and what was expected. */
#ifndef SOWER_MODEL_H
#define SOWER_MODEL_H

#include "sower/kernels.h"
#include "sower/shape.h"
#include "sower/tokenizer.h"

/* An opened model: shape and layout are known, weights are mapped and not yet read. */
typedef struct sow_model sow_model;

SOW_NODISCARD sow_code sow_model_open(const char *path, sow_model **out);
/* Shape only: config.json of a folder suffices (for `plan`); a GGUF too.  Weights cannot be loaded from it. */
SOW_NODISCARD sow_code sow_model_open_shape(const char *path, sow_model **out);
void sow_model_close(sow_model **model);

const sow_layout *sow_model_layout(const sow_model *model);
/* Text of tokenizer.json (or made from GGUF); NULL if the model has none.  Borrowed. */
const char *sow_model_tokenizer_json(const sow_model *model, size_t *bytes);
/* Text of the chat template (tokenizer_config.json, chat_template.jinja, GGUF), NULL if none.  For detection only. */
const char *sow_model_chat_template(const sow_model *model);

/* Reads all weights into theta [layout.n_elements], float32; missing, extra (SOW_EFORMAT names it), wrong shapes and non-finite
 * values are errors that name the tensor.  `hash` gets the digest of theta (may be NULL). */
SOW_NODISCARD sow_code sow_model_load(sow_model *model, float *theta);

/* Writes a complete Hugging Face folder (config.json, model.safetensors, tokenizer files, generation_config.json): weights stored
 * as `type`.  Refuses an existing folder that is not empty.  tokenizer_json and chat_template may be NULL. */
SOW_NODISCARD sow_code sow_model_save(const char *folder, const sow_layout *layout, const float *theta, sow_type type,
                                      const char *tokenizer_json, size_t tokenizer_bytes, const char *chat_template);

/* One safetensors file of named float32 arrays (checkpoints): atomic; `metadata` is a JSON object's text or NULL. */
SOW_NODISCARD sow_code sow_model_save_theta(const char *path, const sow_layout *layout, const float *theta, sow_type type);
SOW_NODISCARD sow_code sow_model_load_theta(const char *path, const sow_layout *layout, float *theta);

/* A new model of a shape from a seed: matrices N(0, (0.6/sqrt(fan_in))^2), o and down also /sqrt(2L), embedding N(0, embed_std^2),
 * norms 1, biases N(0, embed_std^2). */
void sow_model_init(const sow_layout *layout, uint32_t seed, double embed_std, const sow_kernels *kernels, float *theta);
/* tokenizer.json with the bytes as tokens 0..255 and `vocab_size` ids (the rest unused added fillers); text to be freed. */
SOW_NODISCARD sow_code sow_model_byte_tokenizer(int64_t vocab_size, char **out);

#endif
