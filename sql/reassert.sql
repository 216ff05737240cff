-- reassert.sql
-- Writes that may take effect late.
--
-- When an answer is lost (a connection broke, the sender was killed), the request is repeated; but the first copy may still
-- be on its way inside Amazon and take effect after the second, with an older value. So a subject whose answer
-- was lost is asserted once more, lost_answer_grace after its answer, when nothing older can be under way: what
-- Amazon has counts as unknown then, which is a difference, which is sent.
--
-- Who writes: _land (send_answer.sql) and _finish_obsolete (request_claim.sql) add the task, one per SKU, a later
-- one replaces it; an own runner performs it.

create function amzmp._reassert_later(account_id bigint, skus text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if coalesce(cardinality(skus), 0) = 0 then
        return;
    end if;
    insert into amzmp.task (account_id, kind, subject, due_at)
    select _reassert_later.account_id, 'reassert', s.sku, now() + amzmp._account_interval(_reassert_later.account_id, 0, 'lost_answer_grace')
      from (select distinct u.sku from unnest(skus) as u (sku)) s
    on conflict on constraint task_account_id_kind_subject_key do update set due_at = excluded.due_at;
    perform amzmp._wake();
end
$$;
comment on function amzmp._reassert_later(bigint, text[]) is 'Inner: send what is wanted for these SKUs once more when nothing older can be under way.';

create function amzmp._task_reassert(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if exists (select from amzmp.request r
                where r.account_id = _task_reassert.account_id and r.subject_kind = 'listing' and r.subject = _task_reassert.subject
                  and r.state = 'sending') then
        perform amzmp._reassert_later(account_id, array[subject]);
        return;
    end if;
    perform amzmp._lock_skus(account_id, array[subject]);
    update amzmp.listing l set remote_price = null
     where l.account_id = _task_reassert.account_id and l.sku = subject and l.wanted and l.listed and l.in_flight_request is null;
    update amzmp.inventory i set remote_quantity = null
     where i.account_id = _task_reassert.account_id and i.sku = subject and i.listed and i.in_flight_request is null;
    perform amzmp._forget_content(account_id, array[subject], false);
    perform amzmp._plan_sends(account_id, array[subject]);
end
$$;
comment on function amzmp._task_reassert(bigint, text, jsonb) is 'Inner, own runner: forget what Amazon is believed to have of a SKU and send what is wanted.';
