-- `placed`: the replica that an operator gave the cell to (`!NAME`: any other than this one), until somebody takes it without such a
-- wish. While it is set, the replicas do not share the cells out by themselves.
ALTER TABLE cells ADD COLUMN placed text;
