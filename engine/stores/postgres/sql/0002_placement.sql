-- `placed`: the replica that an operator gave the cell to (`!NAME`: any other than this one), until somebody takes it without such a
-- wish. While it is set, the replicas do not share the cells out by themselves.
-- `groups`: the patterns of its groups, since a replica has owned a cell; with another division the states would be in the wrong cells.
ALTER TABLE cells ADD COLUMN placed text, ADD COLUMN groups text[];
