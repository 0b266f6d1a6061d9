// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img check: compares an image's bookkeeping with what it describes, and
 * repairs it.  Exit status, as qemu-img's: 0 all is well, 1 the check could not be
 * done, 2 damaged, 3 space is leaked only, 63 the format has nothing to check.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/qcow2.h"
#include "img/img.h"
#include "img/verbs.h"

enum { CHECK_CLEAN = 0, CHECK_FAILED = 1, CHECK_DAMAGED = 2, CHECK_LEAKS = 3, CHECK_NOTHING = 63 };

static const struct img_opt check_opts[] = {
	{ 'r', 'r', "repair", "leaks|all", "repair what can be: leaks only, or errors too", "leaks all" },
	{ 0 },
};

static int parse_repair(struct img *m, const char *val, unsigned *fix)
{
	*fix = !strcmp(val, "leaks") ? QCOW2_FIX_LEAKS : QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS;
	if (strcmp(val, "leaks") != 0 && strcmp(val, "all") != 0)
		return err_set(&m->e, -EINVAL, "-r: '%.40s' is neither leaks nor all", val);
	return 0;
}

static void say_finding(void *opaque, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static void put_count(json_t *j, const char *key, uint64_t n, int *bad)
{
	if (n)
		*bad |= json_object_set_new(j, key, json_integer((json_int_t)n));
}

static int print_json(struct img *m, const struct blk_node *n, const struct qcow2_check *r)
{
	json_t *j = json_object();
	int bad = json_object_set_new(j, "filename", json_string(n->path));

	bad |= json_object_set_new(j, "format", json_string(n->format));
	bad |= json_object_set_new(j, "check-errors", json_integer((json_int_t)r->check_errors));
	put_count(j, "image-end-offset", r->image_end_offset, &bad);
	put_count(j, "corruptions", r->corruptions, &bad);
	put_count(j, "leaks", r->leaks, &bad);
	put_count(j, "corruptions-fixed", r->corruptions_fixed, &bad);
	put_count(j, "leaks-fixed", r->leaks_fixed, &bad);
	put_count(j, "total-clusters", r->total_clusters, &bad);
	put_count(j, "allocated-clusters", r->allocated_clusters, &bad);
	put_count(j, "fragmented-clusters", r->fragmented_clusters, &bad);
	put_count(j, "compressed-clusters", r->compressed_clusters, &bad);
	if (bad) {
		json_decref(j);
		return err_set(&m->e, -ENOMEM, "out of memory");
	}
	return img_json_print(m, j);
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? (double)part * 100 / (double)whole : 0;
}

static void print_human(const struct qcow2_check *r)
{
	unsigned long long total = r->total_clusters, allocated = r->allocated_clusters;

	if (!r->corruptions && !r->leaks && !r->check_errors)
		printf("No errors were found on the image.\n");
	if (r->corruptions)
		printf("\n%llu errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt "
		       "it.\n", (unsigned long long)r->corruptions);
	if (r->leaks)
		printf("\n%llu leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
		       (unsigned long long)r->leaks);
	if (r->check_errors)
		printf("\n%llu internal errors have occurred during the check.\n", (unsigned long long)r->check_errors);
	if (total && allocated)
		printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", allocated, total,
		       percent(allocated, total), percent(r->fragmented_clusters, allocated),
		       percent(r->compressed_clusters, allocated));
	if (r->image_end_offset)
		printf("Image end offset: %llu\n", (unsigned long long)r->image_end_offset);
}

/* After a repair a second look tells what is left. */
static int check_twice(struct img *m, struct blk_node *n, unsigned fix, struct qcow2_check *r)
{
	struct qcow2_check again = { .say = r->say };
	int ret = qcow2_check(n, fix, r, &m->e);

	if (ret || !(r->corruptions_fixed || r->leaks_fixed))
		return ret;
	if (!m->quiet && !m->json)
		printf("The following inconsistencies were found and repaired:\n\n    %llu leaked clusters\n    %llu corruptions\n\n"
		       "Double checking the fixed image now...\n", (unsigned long long)r->leaks_fixed,
		       (unsigned long long)r->corruptions_fixed);
	again.leaks_fixed = r->leaks_fixed;
	again.corruptions_fixed = r->corruptions_fixed;
	*r = again;
	return qcow2_check(n, 0, r, &m->e);
}

static int check_node(struct img *m, struct blk_node *n, unsigned fix)
{
	struct qcow2_check r = { .say = m->quiet ? NULL : say_finding };
	struct qcow2_info info;
	int ret;

	if (!n->format || strcmp(n->format, "qcow2") != 0) {
		if (!m->quiet)
			fprintf(stderr, "lodge img: check: '%s' is a %s image, which has nothing to check\n", n->path,
				n->format ? n->format : n->drv->name);
		return CHECK_NOTHING;
	}
	ret = check_twice(m, n, fix, &r);
	if (ret)
		return ret;
	qcow2_get_info(n, &info);
	if (info.dirty && r.corruptions && !m->quiet)
		fprintf(stderr, "lodge img: check: '%s' was not closed properly: what opens it for writing repairs it first, and so does -r all\n", n->path);
	if (m->json)
		ret = print_json(m, n, &r);
	else if (!m->quiet)
		print_human(&r);
	if (ret)
		return ret;
	if (r.check_errors)
		return CHECK_FAILED;
	return r.corruptions ? CHECK_DAMAGED : r.leaks ? CHECK_LEAKS : CHECK_CLEAN;
}

static int run_check(struct img *m)
{
	struct img_where w;
	struct blk_node *n;
	const char *val;
	unsigned fix = 0;
	int id, ret = 0;

	while (!ret && (id = img_next(m, &val)) != 0)
		ret = id < 0 ? id : parse_repair(m, val, &fix);
	ret = ret ? ret : img_operands(m, 1, 1);
	/* Backing files have nothing to do with it. */
	ret = ret ? ret : img_where(m, m->operand[0], m->format, IMG_NO_BACKING | IMG_NO_KEY | (fix ? IMG_WRITE : 0), &w);
	if (ret)
		return ret;
	w.o.repair = fix;
	ret = img_open_where(m, &w, &n);
	img_where_free(&w);
	if (ret)
		return ret;
	ret = check_node(m, n, fix);
	blk_close(n);
	return ret;
}

const struct img_verb img_verb_check = {
	.name = "check",
	.summary = "Looks for damage in an image, and repairs it.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_QUIET | IMG_OPT_OPEN,
	.opts = check_opts,
	.run = run_check,
	.trouble = CHECK_FAILED,
};
