-- listing_gtin.sql
-- Barcodes: their normal form, and what is said about a wrong one.

begin;
create extension if not exists pgtap;
create extension if not exists amzmp;
select no_plan();

select is(amzmp.normalize_gtin(c.code), c.normal, c.what)
from (
    values ('4006381333931', '4006381333931', 'an EAN-13 is its own normal form'),
        ('4006-3813 33931', '4006381333931', 'spaces and hyphens do not matter'),
        ('96385074', '96385074', 'an EAN-8 stays short'),
        ('036000291452', '0036000291452', 'a UPC gets its leading zero'),
        ('04006381333931', '4006381333931', 'a GTIN-14 of a single unit is an EAN-13'),
        ('14006381333938', '14006381333938', 'a GTIN-14 of a package stays one'),
        ('0-306-40615-2', '9780306406157', 'an ISBN-10 becomes an ISBN-13'),
        ('080442957x', '9780804429573', 'also with the check character X')
) as c (code, normal, what);

select throws_ok(format('select amzmp.normalize_gtin(%L)', c.code), 'AZ202', c.message, c.what)
from (
    values ('4006381333932', 'check digit of ''4006381333932'' is 2, expected 1', 'a wrong check digit is named, and the right one'),
        ('0306406153', 'check digit of ''0306406153'' is 3, expected 2', 'in an ISBN-10 too'),
        ('400638133393', 'check digit of ''400638133393'' is 3, expected 0', 'a digit that is missing makes another code, which is wrong'),
        ('36000291452', '''36000291452'' is not a barcode', 'eleven digits are none'),
        ('', ''''' is not a barcode', 'nor is nothing'),
        ('40063813ABCDE', '''40063813ABCDE'' is not a barcode', 'nor are letters')
) as c (code, message, what);

select is(amzmp.normalize_gtin(null), null, 'nothing known stays nothing known');
select is(amzmp.normalize_gtin(amzmp.normalize_gtin('036000291452')), '0036000291452', 'the normal form is final');

create role gtin_reader in role amzmp_reader;
set local role gtin_reader;
select amzmp.normalize_gtin('036000291452') as normal \gset
reset role;
select is(:'normal'::text, '0036000291452', 'whoever may read may call it');

select * from finish();
rollback;
