/* SPDX-License-Identifier: Apache-2.0 */
/* Models on disk: a Hugging Face folder or a GGUF file is read, a Hugging Face folder is written.
 *
 * Needs: shape, tokenizer, file, json.  Threads: one model, one thread.  Ranks: knows none; one rank reads and sends.
 * Bad input: every bound is checked; a wrong file is SOW_EFORMAT with path, tensor or key, value, and what was
 * expected. */
#ifndef SOWER_MODEL_H
#define SOWER_MODEL_H

#include "sower/kernels.h"
#include "sower/shape.h"
#include "sower/tokenizer.h"

/* An opened model: shape and layout are known, weights are mapped and not yet read.  A tensor that is missing, one
 * that the model does not have, a wrong shape or an unknown type are errors of opening already, and name the tensor. */
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

/* Reads all weights into theta [layout.n_elements], float32, and sets the padding to zero.  A value that is not finite
 * is SOW_ENUM naming the tensor; two different copies of a tied embedding are SOW_EFORMAT. */
SOW_NODISCARD sow_code sow_model_load(sow_model *model, float *theta);

/* Writes a complete Hugging Face folder (config.json, model.safetensors, tokenizer files, generation_config.json):
 * weights stored as `type`; a value that does not fit it is SOW_ENUM.  Refuses an existing folder that is not empty.
 * The folder is there whole or not at all.  tokenizer_json and chat_template may be NULL. */
SOW_NODISCARD sow_code sow_model_save(const char *folder, const sow_layout *layout, const float *theta, sow_type type,
                                      const char *tokenizer_json, size_t tokenizer_bytes, const char *chat_template);

/* One safetensors file of all tensors of a layout (checkpoints); saving is atomic, loading checks as sow_model_open
 * and _load do. */
SOW_NODISCARD sow_code sow_model_save_theta(const char *path, const sow_layout *layout, const float *theta,
                                            sow_type type);
SOW_NODISCARD sow_code sow_model_load_theta(const char *path, const sow_layout *layout, float *theta);

/* A new model of a shape from a seed: matrices N(0, (0.6/sqrt(fan_in))^2), o and down also /sqrt(2L), embedding N(0,
 * embed_std^2), norms 1, biases N(0, embed_std^2).  Bits: the same with all kernels. */
void sow_model_init(const sow_layout *layout, uint32_t seed, double embed_std, const sow_kernels *kernels,
                    float *theta);
/* tokenizer.json whose token i is the byte i, with `vocab_size` ids: from 256 on fillers that no text gives, below 256
 * the first bytes only.  SOW_EARG below 128.  Text to be freed. */
SOW_NODISCARD sow_code sow_model_byte_tokenizer(int64_t vocab_size, char **out);

#endif
