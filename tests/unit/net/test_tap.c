/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tap: names are checked, refusals say what helps, and where the host lets us
 * make one (in a network namespace of our own) frames go both ways.
 */
#include "net_test.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;

static int refused(const char *name, unsigned queues, const char *word)
{
	struct net_backend *b = NULL;
	struct err e = { 0 };
	int ret = net_tap_new(loop, name, queues, &b, &e);

	assert_true(ret < 0);
	assert_null(b);
	if (!strstr(e.msg, word))
		fail_msg("'%s' does not say '%s'", e.msg, word);
	return ret;
}

static void names(void **state)
{
	refused("a-name-much-too-long", 1, "too long");
	refused("a b", 1, "character");
	refused("a/b", 1, "character");
	refused("tap%d", 1, "character");
	refused("..", 1, "..");
	refused("tap0", 17, "17");
	refused("tap0", 0, "0 queue");
}

/* Without privilege: the message names the tap and the cure, or the device. */
static void no_permission(void **state)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct net_backend *b = NULL;
		struct err e = { 0 };
		int ret;

		if (!geteuid() && setuid(65534))
			_exit(2);
		ret = net_tap_new(loop, "lodgetest0", 1, &b, &e);
		_exit(ret < 0 && !b && (strstr(e.msg, "lodgetest0") || strstr(e.msg, "/dev/net/tun")) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool is_ipv6(const uint8_t *f, size_t len)
{
	return len > 14 && rd16(f + 12) == 0x86dd;
}

/* The interface that came up announces itself by IPv6 multicast; ours is heard by nobody. */
static int both_ways(unsigned queues)
{
	struct test_card *c = calloc(1, sizeof(*c));
	struct net_vhdr h = { .flags = 1, .csum_start = 34, .csum_offset = 6 };
	uint8_t f[60] = { 0 };
	struct iovec v = { f, sizeof(f) };
	struct net_backend *b, *second = NULL;
	struct err e = { 0 };
	struct loop *l;
	int ret, heard;

	if (loop_new(&l))
		return 1;
	ret = net_tap_new(l, "lodgetest0", queues, &b, &e);
	if (ret) {
		print_message("%s\n", e.msg);
		return 77;
	}
	card_plug(c, l, b);
	if (b->mtu != 1500)
		return 6;
	if (net_tap_new(l, "lodgetest0", 1, &second, &e) == 0 && queues == 1)
		return 2;
	net_close(second);
	b->ops->set_queues(b, queues);
	b->ops->set_offloads(b, b->offloads);
	heard = card_wait(c, is_ipv6, 4000);
	ip4_header(f, 17, 0x0a00020f, 0x0a000202, 26);
	for (unsigned q = 0; q < queues; q++)
		if (b->ops->send(b, q, &h, &v, 1))
			return 3;
	/* One byte long: the kernel refuses, we drop. */
	v.iov_len = 1;
	if (b->ops->send(b, 0, NULL, &v, 1) >= 0)
		return 4;
	b->ops->set_queues(b, 1);
	b->ops->set_offloads(b, 0);
	net_close(b);
	loop_free(l);
	free(c);
	return heard < 0 ? 5 : 0;
}

static void in_a_namespace(unsigned queues)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWNET | (geteuid() ? CLONE_NEWUSER : 0)))
			_exit(77);
		_exit(both_ways(queues));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status == 77 << 8) {
		print_message("no tap may be made here\n");
		skip();
	}
	assert_int_equal(status, 0);
}

static void frames_pass(void **state)
{
	in_a_namespace(1);
}

static void several_queues(void **state)
{
	in_a_namespace(4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(frames_pass),
		cmocka_unit_test(several_queues),
	};
	int ret;

	if (loop_new(&loop))
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	loop_free(loop);
	return ret;
}
