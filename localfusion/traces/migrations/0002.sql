-- The trace whose recorded panel this run judged once more; NULL: the panel was asked.
ALTER TABLE trace ADD COLUMN replay_of TEXT;
