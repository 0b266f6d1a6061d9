/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved memory as it is read: one file, or several, each a difference of the one below (mem_index.h).
 *
 * A file without an index (what Lodge wrote before there was one) stands alone, is raw, and has no checksums.  Files are foreign data; of
 * a raw one that is mapped nobody looks at the checksums: pages come from it when they are touched.
 *
 * Threads: an image is read by any, and changed (pushed to, freed) by one.
 */
#ifndef LODGE_MACHINE_MEM_IMAGE_H
#define LODGE_MACHINE_MEM_IMAGE_H

#include "machine/mem_index.h"

#define MEM_IMAGE_LEVELS 8u
/* Runs of pages that a difference has, so that mapping it stays cheap, and an image below the kernel's bound of 65,530 mappings. */
#define MEM_DIFF_RUNS 4096u

struct mem_image;

/* Of `size` bytes of RAM, whole pages. ENOMEM */
int mem_image_new(uint64_t size, struct mem_image **out);
/* Puts a file on top; fd and what ix points to are taken over, also when it fails.  ix: NULL, none.  EINVAL: it has another size than it must,
 * or is no difference of what is below. */
int mem_image_push(struct mem_image *img, int fd, struct mem_index *ix, struct err *e);
void mem_image_free(struct mem_image *img);

uint64_t mem_image_size(const struct mem_image *img);
/* Of the file on top; NULL: it has no index. */
const uint8_t *mem_image_id(const struct mem_image *img);
unsigned mem_image_levels(const struct mem_image *img);
/* Can it be mapped?  Packed files cannot, nor those in more pieces than a process should have. */
bool mem_image_mappable(const struct mem_image *img);
/* Maps it over the address space [host, host + size), private. 0 or -errno, with what was there gone */
int mem_image_map(const struct mem_image *img, uint8_t *host);
/* Reads all that it has into memory of zeros, on all CPUs, and checks it.  EINVAL: something is damaged, and the message says where. */
int mem_image_read(const struct mem_image *img, uint8_t *host, struct err *e);
/* Only checks. */
int mem_image_check(const struct mem_image *img, struct err *e);
/* Sets the bits of pages that some file has. */
void mem_image_pages(const struct mem_image *img, uint64_t *bitmap);

#endif
