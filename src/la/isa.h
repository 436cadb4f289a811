/* SPDX-License-Identifier: Apache-2.0 */
/* isa.h: what the sources that are compiled once per instruction set (*_isa.c) share.  SOW_ISA is the name of the set;
 * every function that one of these files offers the others carries it, so that all variants live in one binary. */
#ifndef SOWER_LA_ISA_H
#define SOWER_LA_ISA_H

#include "la_impl.h"
#include "vec.h"

#define ISA_PASTE(a, b) sow_##a##_##b
#define ISA_JOIN(a, b)  ISA_PASTE(a, b)
#define ISA_FN(name)    ISA_JOIN(name, SOW_ISA)
#define ISA_QUOTE(name) #name
#define ISA_NAME(name)  ISA_QUOTE(name)

/* linear_isa.c */
void ISA_FN(linear)(const sow_linear_args *args);

/* mixed_isa.c: the same and `outer` in products of bf16. */
void ISA_FN(linear_mixed)(const sow_linear_args *args);
void ISA_FN(outer_mixed)(const sow_outer_args *args);

/* limits_isa.c */
double ISA_FN(peak)(sow_type type, int64_t n, float *out);
float ISA_FN(read)(int64_t n, const float *x);

/* attention_isa.c */
void ISA_FN(attention)(const sow_attention_args *args);

/* attention_back_isa.c */
void ISA_FN(attention_dq)(const sow_attention_dq_args *args);
void ISA_FN(attention_dkv)(const sow_attention_dkv_args *args);

/* backward_isa.c */
void ISA_FN(rms_norm_back)(int64_t n, const float *x, const float *w, float eps, float *dy, float *dx);
void ISA_FN(swiglu_back)(int64_t n, const float *dy, float *gate, float *up);
void ISA_FN(rope_back)(int64_t n, const float *cosine, const float *sine, float *x);
float ISA_FN(entropy)(int64_t n, const float *x, float max, float sum);
void ISA_FN(softmax_back)(const sow_softmax_back_args *args);

/* rows_isa.c */
void ISA_FN(rms_norm)(int64_t n, const float *x, const float *w, float eps, float *y);
void ISA_FN(swiglu)(int64_t n, const float *gate, const float *up, float *out);
void ISA_FN(add)(int64_t n, const float *y, float *x);
void ISA_FN(rope)(int64_t n, const float *cosine, const float *sine, float *x);
int64_t ISA_FN(argmax)(int64_t n, const float *x, float *max);
float ISA_FN(sum_exp)(int64_t n, const float *x, float max);
void ISA_FN(exp)(int64_t n, const float *x, float *out);
void ISA_FN(log)(int64_t n, const float *x, float *out);
int ISA_FN(has_non_finite)(int64_t n, const float *x);

/* noise_isa.c.  noise_blocks writes whole blocks of 64 elements, from block `first` on, and prefetches as many floats
 * that are needed soon. */
void ISA_FN(noise_blocks)(sow_noise_loop loop, const sow_place *place, uint64_t first, int64_t n_blocks,
                          const float *soon, float *out);
void ISA_FN(noise)(sow_noise_loop loop, sow_place place, uint64_t first, int64_t n, float *out);
void ISA_FN(accumulate)(const sow_accumulate_args *args);
void ISA_FN(perturb_f32)(sow_noise_loop loop, sow_place place, int64_t n, float factor, const float *theta, float *out);

/* perturb_isa.c */
void ISA_FN(perturb)(const sow_perturb_args *args);
void ISA_FN(apply)(const sow_apply_args *args);
void ISA_FN(hold)(const uint32_t *mask, int64_t first, int64_t n, const float *from, float *to);
void ISA_FN(narrow)(sow_type type, int64_t n, const float *x, void *out);
void ISA_FN(widen)(sow_type type, int64_t n, const void *x, float *out);

/* outer_isa.c */
void ISA_FN(outer)(const sow_outer_args *args);

/* transpose_isa.c */
void ISA_FN(transpose)(const sow_transpose_args *args);

/* optimizer_isa.c */
void ISA_FN(adamw)(const sow_adamw_args *args);
int ISA_FN(add_fixed)(int64_t n, const float *x, int64_t *sums);
int ISA_FN(add_int64)(int64_t n, const int64_t *from, int64_t *to);
void ISA_FN(from_fixed)(int64_t n, const int64_t *sums, float *out);

#endif
