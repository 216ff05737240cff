/*
 * owner.c
 *	  Acting as amzmp_owner around our own SQL.
 *
 * The sender and the own runners connect as the bootstrap superuser (a NOLOGIN role cannot be a worker's session
 * user before PostgreSQL 17) and public functions are called by anybody: both work as amzmp_owner, so that nothing of
 * ours ever needs more than that role has. An error needs no clean-up: (sub)transaction abort restores the user.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "owner.h"

void
owner_enter(OwnerScope *scope)
{
	Oid owner = get_role_oid("amzmp_owner", false);

	GetUserIdAndSecContext(&scope->user, &scope->context);
	SetUserIdAndSecContext(owner, scope->context | SECURITY_LOCAL_USERID_CHANGE);
}

void
owner_leave(const OwnerScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->context);
}
